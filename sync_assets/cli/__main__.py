"""Run the command line by `python -m sync_assets.cli`, if the script `sync-assets` is not on the path."""

from sync_assets.cli.main import main

main()
