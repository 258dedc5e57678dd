"""Try each premise about the two systems on a stage tenant, with synthetic records, and store what was found.

certification      the order of the probes, the lease, the mark and the report in the ledger, which `doctor` reads
synthetic_record   the record of one mapped table: its id, its values, its requests, also those of a killed run
campaign_premises  keys, links, values, reasons of errors
dynamics_premises  what can be read of Dynamics 365, to which nothing is written

Source of the premises: docs/dev/references/campaign.md 2, 4, 5, 13 and docs/dev/references/dataverse.md 8.
"""
