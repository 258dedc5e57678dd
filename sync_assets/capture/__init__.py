"""Capture: the change feed of Dynamics 365 into the ledger, page by page.

table_capture      follows a table's change feed: start reading here
page_preparation   a page parsed, deduplicated, filtered and transformed
unchanged_rows     rows of a full read whose hash the ledger has
kept_delta_link    no change is lost while a full read goes on
row_reads          rows of a replay, and single rows by id
page_size          fewer rows a page where Dynamics 365 fails
feed_polling       is there news, without reading it?
"""
