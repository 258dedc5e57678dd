"""Tests that read as specifications.

unit       one module each, mirroring the package
flows      whole runs between both systems, Dagster's UI, the images of `deploy/`
property   any sequence of changes, answers and kills
bench      benchmarks, which print ratios
support    the world that tests share: sandbox, program, databases, servers
"""
