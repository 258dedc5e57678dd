"""Capture: read the change feed of Dynamics 365 page by page, and store the rows in the ledger.

table_capture      the capture of one table; start reading here
context            what all parts of a capture share: ledger, client, mapping, lease
page_pipeline      fetch, parse and prepare the pages of a read ahead of the ledger
page_preparation   leave unchanged rows unread; deduplicate, filter and transform one page
kept_delta_link    the delta link by which a read of several pages loses no change
replay             rows of some days, read again
rows_by_id         single rows by id
backlog_limit      pause while too many records are pending
page_size          smaller pages where Dynamics 365 fails on large ones
feed_polling       detect news in the feeds without reading them
"""
