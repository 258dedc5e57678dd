"""Tests, a folder for each room of the package; they read as specifications.

`flows` has whole runs between the systems, `bench` what is measured, `browser` Dagster's UI, `deploy` the images.
`program.py` and `sandbox_process.py` are how tests drive the program and the systems.
"""
