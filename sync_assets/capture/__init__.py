"""Capture: read the change feed of Dynamics 365 page by page, and store the rows in the ledger.

table_capture      the capture of one table; start reading here
context            what all parts of a capture share: ledger, client, mapping, lease, page size
page_pipeline      fetch, parse and prepare the pages of a read ahead of the ledger
page_preparation   deduplicate, filter and transform one page
kept_delta_link    the delta link by which a read of several pages loses no change
queries            rows of some days (replay), and rows by id, read beside the feed
backlog_limit      pause while too many records are pending
feed_polling       detect changes in the feeds without reading them
"""
