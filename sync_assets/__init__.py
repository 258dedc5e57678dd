"""Dynamics 365 contacts and custom entities into Adobe Campaign Standard, as Dagster data assets.

definitions   what Dagster loads; cli: what a shell runs. Neither holds logic: both call the rooms below
config*       the configuration file, typed and validated; settings: the environment; runtime: both, with clients
ingress       D365 -> Campaign
opt_out       opt-outs, both ways
ledger        desired state against acknowledged state: the only state that the program keeps
d365, campaign, sftp   the clients; http, transport, wire: what they share
operations    what the commands do; scaffold: a first configuration; report: the daily page; alerts: who is told
launching     for a dagster.yaml of an earlier version
sandbox       local systems for tests and demonstrations

Arrows point one way: definitions, cli -> operations, report -> ingress, opt_out -> ledger, clients -> http. Nothing but
`cli` and the tests imports `sandbox`. Importing this package imports nothing further but `memory`, whose settings are
for threads that do not exist yet.
"""

from sync_assets.memory import give_back_large_buffers

give_back_large_buffers()
