"""Every Dagster object. Thin: what is decided, is decided below, where nothing imports Dagster.

tables/       the assets of the mapped tables, their checks, sensors and runs
opt_out/      the same for opt-outs
alerts/       incidents of the instance, and the sensor that notifies
report/       the daily report
operations/   jobs for the operator
instance/     the Dagster instance: its history, its storage
resources, partitions, run_errors, dagster_internals
"""
