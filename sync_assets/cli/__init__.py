"""The command line: `main` reads arguments and calls one command, `tables` prints its document. Imports are lazy."""
