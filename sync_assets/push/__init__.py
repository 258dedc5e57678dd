"""Push: send the ledger's pending records to Campaign, with many requests in flight.

dispatcher        claim, send, acknowledge: start reading here
delivery          the requests for one record
delivery_result   the result of a delivery, and the outcome that the ledger stores
record_links      the PKey or key that each link is sent with, and the check that Campaign stored the link
request_body      the JSON of a request
refused_updates   each update, and which attributes Campaign refuses in updates
group_updates     another request for the attributes that an update leaves out
claimed_records   claimed records, their queue to the senders, and outcomes not stored yet
campaign_health   whether Campaign itself fails, or only single records; how many requests may be in flight
target            the Campaign resource that a push writes to, and the counts of a push
rehearsal         a push on a scratch ledger, for `plan`
"""
