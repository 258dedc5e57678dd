"""What others read and write with, each a program of its own: see `known.py`."""
