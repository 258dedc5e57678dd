"""Campaign compared with the ledger: drift, existing records, rebuild, the records of a person.

drift                                   a sample read back and compared
record_list, record_comparison          all records of a resource against the ledger
existing_records, rebuild               before a first load, and after a ledger was lost
value_comparison                        does a record hold what was sent? Pure
person_records, campaign_person_records all records of a person, for privacy holds
"""
