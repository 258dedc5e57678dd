"""Show something again and again in the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console

SECONDS = 2.0


def repeated(show: Callable[[], None]) -> None:
    """Call `show` every SECONDS until Ctrl-C. In a terminal each output replaces the one before."""
    console = Console()
    try:
        while True:
            if console.is_terminal:
                console.clear()
            show()
            console.file.flush()
            time.sleep(SECONDS)
    except KeyboardInterrupt:
        return
