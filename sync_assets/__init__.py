"""Dynamics 365 contacts and custom entities into Adobe Campaign Standard, as Dagster data assets.

definitions        what Dagster loads: `defs` builds them
cli                the program: main, and the commands that start Dagster
defs               every Dagster object
commands           the other commands, a module each; jobs call the same functions
flows              the two flows of a table: capture and push
capture, push      change feed to ledger; ledger to Campaign
opt_out, audit     opt-outs both ways; comparisons of Campaign with the ledger
mapping            rows to payloads, pure
checks             the registry of findings: rules of the set-up, what they find, what they stop
runtime            what the flows of a process share
ledger             desired state against acknowledged state: all that the program stores
dataverse, campaign, sftp             clients
http, config, errors, performance, foreign_text    below all of them
webserver          the guard before Dagster's web server
alerts, scaffold   incidents and notifications; a first configuration
sandbox            local systems for tests and demonstrations

Arrows point one way, see docs/dev/architecture.md; `.importlinter` checks it.
"""
