"""Loads by file: files on the Campaign SFTP, which a workflow imports, verified by Campaign's list.

decision       whether a table's first inserts go by file
file_rows      records as lines of a file
forecast       both ways of first inserts side by side
files          write and remove the files of a load
held_records   take held records out of files that were not started
load_run       the states of a load, from its first record to its end: start reading here
update_run     a file a day of attributes that REST refuses in updates
file_premises  the way by file, tried by `certify`
"""
