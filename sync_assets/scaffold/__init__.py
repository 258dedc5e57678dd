"""Suggest a first configuration from both systems' metadata, and add tables to an existing one.

name_similarity   compare names of both systems
suggestions       of a table: its resource, key, fields and links, with a confidence: start reading here
yaml_text         suggestions as YAML, and inserting a table into a file

All of it is pure; `commands/init.py` reads the systems and writes the file.
"""
