"""Transform rows of Dynamics 365 into what Campaign should hold: pure functions on Polars frames.

table_mapping            a table's configuration, compiled against the metadata of both systems
transform                a page of rows to payloads and hashes: start reading here
attribute_steps          one row, step by step, for `explain`
refusable                attributes that Campaign may refuse in updates
merged_contacts          opt-outs of contacts that were merged into others
mapping_changes          the same rows under an earlier mapping: what Campaign's records need after a change
filters, replacements    which rows are sent, and which values are replaced; before any conversion
conversions              the conversion for each pair of a column type and an attribute type
conversion_expressions   each conversion as a Polars expression
configured_values, exact_numbers   values of the configuration and numbers as exact text
column_pairs             columns and attributes with descriptions, for Dagster's UI
unlabelled_options       option numbers without a label
personal_data            columns whose names suggest personal data
"""
