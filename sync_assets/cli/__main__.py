"""`python -m sync_assets.cli`, where the script `sync-assets` is not on the path."""

from sync_assets.cli.main import main

main()
