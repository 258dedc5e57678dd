"""Writes a first configuration from what both systems say of themselves, and adds tables to one that is there.

`names` compares names, `fields`, `links` and `tables` suggest with a confidence, `writing` makes YAML of it,
`insertion` puts a table into a file. All is pure: who asks the systems and writes the file is `commands/configure.py`.
"""
