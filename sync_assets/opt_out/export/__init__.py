"""Read the opt-out export file from the Campaign SFTP, validate its rows, and store its statements in the ledger.

folder               poll the SFTP folder: which files are ready, which are done
file                 a file -> batches of valid rows, and of rejected rows with reasons: start reading here
lines, rows, cells   bytes -> lines -> cells -> values
guess                the layout of a sample, for `doctor --file` and `init`
staging              keep validated rows until the whole file is valid, then store their statements
"""
