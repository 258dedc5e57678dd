"""`python -m sync_assets.sandbox`: the sandbox without the rest of the program."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sync_assets.performance import return_large_buffers
from sync_assets.sandbox.campaign.settings import DIALECTS
from sync_assets.sandbox.server import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sync_assets.sandbox", description=__doc__)
    parser.add_argument("--contacts", type=int, default=1000, metavar="N", help="sample contacts to begin with")
    parser.add_argument("--port", type=int, default=0, metavar="P", help="use ports P to P+5 (0: free ones)")
    parser.add_argument("--env-file", type=Path, metavar="F", help="write KEY=value lines for clients here")
    parser.add_argument("--dialect", choices=sorted(DIALECTS), default="standard", help="build of Campaign to play")
    parser.add_argument("--until-stdin-closes", action="store_true", help="stop when standard input ends")
    arguments = parser.parse_args()
    return_large_buffers()
    try:
        given = (arguments.contacts, arguments.port, arguments.env_file, arguments.dialect)
        run(*given, until_stdin_closes=arguments.until_stdin_closes)
    except OSError as error:
        print(f"the sandbox could not start: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
