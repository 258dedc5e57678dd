"""The command line: `main` reads arguments and calls one command, `tables` prints its answer. Imports are lazy."""
