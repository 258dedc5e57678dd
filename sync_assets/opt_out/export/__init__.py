"""The opt-out export file: from the SFTP folder to validated rows in the ledger.

folder        files on the SFTP: which are ready, which are done
file          a file to batches of valid rows, and of bad rows with reasons: start reading here
lines, rows, cells   bytes to lines to cells to values
date_layouts  the date formats of Campaign's Extract file activity
staging       validated rows into the ledger
"""
