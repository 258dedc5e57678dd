"""All Dagster objects of the project: assets, checks, sensors, jobs and resources. A thin layer.

Logic that does not need Dagster belongs in the packages next to this one, which do not import Dagster.

build             which objects exist: start reading here
follower/         the job `follow`: one run that follows the changes of all tables
tables/           assets, checks, sensors and asset runs of the mapped tables
opt_out/          the same for opt-outs
report            the daily report
alerts            state of the instance, and the sensor that sends notifications
jobs              jobs for operators, which call the functions of commands
history           deletes old runs, events and check results from the instance
results           metadata and results of checks from plain values
asset_keys, partitions, resources   keys, partitions and run tags, systems as Dagster resources
run_errors        errors in runs and sensors
dagster_internals private API of Dagster's for reading, without SQL
"""
