"""Campaign Standard: sign-in, records, metadata, the dialect of its errors.

client          a resource and its records, with the calls that they cost: start reading here
records         one resource's records, addressed by our key
dialect         which of its answers are permanent, what a duplicate looks like: nowhere else is an answer judged
metadata, resource_type   what Campaign says about a resource
opt_out_polling, workflow   opt-outs read through the API; the workflow that exports them
sign_in, times  Adobe IMS; how moments are written

Knows nothing of D365, the ledger or Dagster. Never stores a PKey.
"""
