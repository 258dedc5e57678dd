"""What the command line does, one module an operation; `cli.py` only reads arguments and prints."""
