"""Compare Campaign with the ledger: audits, existing records, rebuilds, the records of a person; the daily report.

record_audit, audited_records           all records of a resource against Dynamics 365 as mapped now; audit_result
record_list, record_comparison          all records of a resource against the ledger: start reading here
existing_records                        that comparison before a first load; commands/rebuild.py after a lost ledger
value_comparison                        whether a record holds what was sent; pure
person_records                          all records of a person, for privacy holds
record_facts                            one record in both systems and the ledger, and whether it is in step
linked_records                          a record with the records that its links lead to
daily_report                            the numbers of the last days, and the page of the report
certification                           synthetic records on a stage tenant, to find out how both systems behave
"""
