"""`python -m` of this module with the arguments of `sync-assets`: the program, with a low limit of the backlog."""

from sync_assets.capture import backlog_limit
from sync_assets.cli.main import main

MOST = 12

if __name__ == "__main__":
    backlog_limit.MOST_PENDING = MOST
    main()
