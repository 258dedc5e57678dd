"""Rules of the set-up and of a table's state, and what they find: what `doctor`, runs, commands and asset checks show.

rules            the registry: each rule with its titles, and what it stops: start reading here
preflight        a table's set-up, by both systems' metadata and its last capture
guardrails       limits that stop a run before its first write; estimates of engine calls
opt_out_columns  which columns can carry an opt-out
health           the state of a table, of the export file and of opt-outs, by the ledger
dynamics         the application user in Dynamics 365: certificate, privileges, change tracking window
link_findings, refused_attributes   links, and attributes that Campaign refuses in updates
known_types      the last known types of columns and attributes
installation     environment, ledger, Campaign's API, SFTP
"""
