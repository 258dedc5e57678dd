"""The ledger's state rules as pure functions: no database, no clock.

transitions         the state of a record after a capture, a delete or a response: start reading here
record_state        the state of a record (synced, pending, waiting, rejected, held, orphaned) and its block reason
predicates          the conditions on a record, each as Python and as SQL
dependencies        the dependency status that results from a record's parents
merged_contacts     the opt-out of a merged contact and its master
opt_outs            the state of an opt-out after a statement, a capture or a write
rejection_reasons   rejection reasons without ids and lengths, so that they can be counted
"""
