"""Store Parquet tables in a folder or on S3: rows of opt-out files, and decisions.

store       tables, partitions and parts: start reading here
locations   read, write and list files by key, on a disk or in a bucket
writer      write a stream of frames as the parts of a partition, visible all at once
"""
