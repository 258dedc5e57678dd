"""Synchronise opt-outs between contact and profile: read the export file, decide which value wins, write it.

decide              the policy: which value wins, and why; one pure function: start reading here
export              an export file on the SFTP -> validated rows, and their statements in the ledger
profile_polling     statements from profiles that changed, through Campaign's API
pending_decisions   decide all opt-outs that are due
apply               write decided values to the system that does not hold them
changes             poll, decide and write in one call, for everything that is due without a file
contact_opt_outs    the opt-outs of one contact, for `explain`
parity              compare the opt-outs of listed contacts in both systems
session             clients, ledger and lease for all of these

The last values of both systems are stored in the ledger (ledger/rules/opt_outs.py), as is every decision
(ledger/repositories/opt_out_decisions.py). Which columns may be mapped is
defined in checks/opt_out_columns.py. Dagster's assets and sensors are not here, but in defs/.
"""
