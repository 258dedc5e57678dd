"""Opt-outs between contact and profile: the export file, the decision, the writes. Domain first, Dagster last.

decide          the rule: who wins, and why; one pure function: start reading here
export_file, export_lines, export_rows, export_values, columns, dates   a file -> validated rows, bad ones apart
files, taking, polling   which files are ready; what a file or a poll of profiles says, into the ledger
deciding, applying, audit   what is due is decided, read again, written on the side that differs, and kept as Parquet
changes         all of that in one go, for what is due without a file
store, places, writing, io_manager   where tables and decisions are kept: a folder or S3
parity, checks  do both sides agree, is the file overdue, is there room
export_asset, assets, changes_asset, asset_results, pages, sensors, partitions   Dagster's objects, thin

What either side said last is kept in `ledger`. Which columns may be mapped is said in `config_opt_out`.
"""
