"""What an operator does, by a command or a job: holds, maintenance, status, log export. Imports no Dagster."""
