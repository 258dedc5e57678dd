"""Suggest a first configuration from both systems' metadata, and add tables to an existing one.

name_similarity                 compare names of both systems
suggestions, table_suggestions  suggestions with a confidence
yaml_text                       suggestions as YAML, and inserting a table into a file

All of it is pure; `commands/configure.py` reads the systems and writes the file.
"""
