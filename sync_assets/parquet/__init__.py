"""Parquet tables in a folder or on S3: rows of opt-out files and decisions.

store       tables, partitions and parts: start reading here
locations   whole files under keys, on a disk or in a bucket
writer      a stream of frames as the parts of a partition, visible all at once
"""
