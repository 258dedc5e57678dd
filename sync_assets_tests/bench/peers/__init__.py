"""The clients of other projects that are measured, each a program of its own: see `known.py`."""
