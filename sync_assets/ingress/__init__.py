"""D365 -> Campaign: transform (pure), capture, push, and the Dagster objects around them.

flows           the two flows of a table, without Dagster: start reading here
capture, captured, unread, replay   the change feed into the ledger; what of a re-read need not be read; rows beside it
transform       a page of rows -> what Campaign should hold; uses filters, replacements, conversion, expressions
mapping         a table's configuration, compiled against the metadata of both systems
push, delivery, holding, concurrency   what is pending to Campaign; the requests for a record; leases; how many at once
preflight, guardrails, findings   what stops a table before its first write
plan, rebuild, drift, comparison, hold   rehearsal; a lost ledger; samples; where a contact is
maintenance, data_model   tables that stand still, by a person's word or because a type changed
assets, checks, sensors, runs, spread, shown   Dagster's objects: thin, nothing in them needs Dagster to be tested

Opt-outs that travel back belong to `opt_out`, SQL to `ledger`, requests to `d365` and `campaign`.
"""
