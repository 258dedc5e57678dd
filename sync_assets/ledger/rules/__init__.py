"""The ledger's rules as pure functions: no database, no clock.

record_state        where a record belongs: synced, pending, waiting, rejected, held, orphaned
transitions         the state after a capture, a delete or an answer: start reading here
dependencies        what a record's parents mean for it
opt_outs            the life of an opt-out
rejection_reasons   reasons without what is particular to a record, so that they can be counted
"""
