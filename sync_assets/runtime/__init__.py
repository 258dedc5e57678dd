"""What the flows of one process share: configuration, ledger, signed-in clients, call limits, leases.

context           `Runtime`, opened lazily: start reading here
systems           the two systems of the ledger against those of the environment
call_limits       Campaign's limits, shared by all processes of a ledger
parent_keys       PKeys of parents, in memory only
workers           who holds a lease, and whether that process lives
heartbeat         heartbeats of Dagster runs
program_sources   files whose change ends a run
interruptible     coroutines that a signal ends at an `await`
"""
