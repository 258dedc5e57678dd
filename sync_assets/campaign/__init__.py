"""Campaign Standard: sign-in, records, metadata, and the meaning of its answers.

client          a resource's metadata and records, with the calls that they cost: start reading here
records         one resource's records, addressed by our key
addressing      how records are addressed (by key or by filter), and the findings about that
first_requests  which requests go alone until that is known
dialect         what an answer means for a record; no other module interprets answers
metadata        attributes of a resource, and the parser for Campaign's description of it
profile_opt_outs, workflows   opt-outs read through the API; the workflow that exports them
sign_in         Adobe IMS

Imports neither Dynamics 365 code, the ledger nor Dagster. Never stores a PKey.
"""
