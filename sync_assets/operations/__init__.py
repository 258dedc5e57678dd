"""What the command line does, one module an operation; `cli.py` only reads arguments and prints.

An operation gives a plain document (what `--json` prints) and raises SyncAssetsError; `show` makes text of them for
people. What a run of Dagster does as well belongs to `ingress` or `opt_out`, not here.
"""
