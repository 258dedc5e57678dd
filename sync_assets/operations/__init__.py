"""Operations that a command or a Dagster job runs: holds, maintenance, status, replay, rebuild, log export.

Imports no Dagster.
"""
