"""All Dagster objects of the project: assets, checks, sensors, jobs and resources. A thin layer.

Logic that does not need Dagster belongs in the packages next to this one, which do not import Dagster.

tables/           assets, checks, sensors and runs of the mapped tables
opt_out/          the same for opt-outs
alerts/           state of the instance, and the sensor that sends notifications
report/           the daily report
operations/       jobs for operators
instance/         the Dagster instance: opening it, pruning its history, SQL on its storage
resources         systems as Dagster resources
partitions        daily partitions, and run tags
run_errors        errors in runs and sensors
dagster_internals every use of Dagster's private API except SQL on its storage
"""
