"""A module for each command that starts no Dagster: its function, its options, and its text for people.

The function has typed arguments, prints nothing, and is called by the job of the same name, too. `command` has the
options; `show` yields the document's lines and tables; cli/main.py lists all commands. `retry` is short: start reading
here. Beside the commands:

terminal         options, questions, progress, lines and tables
values           ids and names of tables as users write them; parts of documents
inventory        counts Campaign's records for `plan` and `migrate`
estimate_calls   the arithmetic of `estimate`, and what it reads
explanation      the document of `explain`, and its text
plan_document    the document of `plan`
document_schema  the JSON Schema of the documents of `--json`
export_sample    what `doctor --file` reads of a sample of the opt-out export
log_export       the day's log on the Campaign SFTP
"""
