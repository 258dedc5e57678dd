"""Push: pending records of the ledger to Campaign, with many requests in flight.

dispatcher        claims, sends, acknowledges: start reading here
delivery          the requests for one record, and its outcome
record_links      what a record's links are sent as, and whether Campaign kept them
claimed_records   records under lease, and acknowledgements not stored yet
concurrency       how many requests may be in flight
target            the resource that is written to, and what came of a push
rehearsal         a push on a scratch ledger, for `plan`
"""
