"""Hold what all flows of one process share. What a flow found or counted, it returns.

context           `Runtime`, of which all is opened lazily: start reading here
configuration     what is read: the environment, the configuration file
clients           what is read: both systems
ledger_access     what is written: the ledger, and how a caller may use it
progress          how far the activities have come, for a display
systems           check that environment, ledger and systems belong together; the files that remember the ledger
call_limits       keep to Campaign's limits, shared by all processes of a ledger
pkeys             PKeys of parents, in memory only, and of listed records, in a temporary file
workers           workers, their sessions, and whether their process is alive; the runs they work on; killed runs
program_sources   detect changed files, which end a run
interruptible     run a coroutine that a signal cancels at an `await` only
"""
