"""Hold what all flows of one process share: configuration, ledger, signed-in clients, call limits, sessions.

context           `Runtime`, opened lazily: start reading here
systems           check that environment, ledger and systems belong together; the files that remember the ledger
call_limits       keep to Campaign's limits, shared by all processes of a ledger
pkeys             PKeys of parents, in memory only, and of listed records, in a temporary file
workers           workers, their sessions, and whether their process is alive; the runs they work on; killed runs
program_sources   detect changed files, which end a run
interruptible     run a coroutine that a signal cancels at an `await` only
"""
