"""Parts that commands share: their arguments, the runtime, output for people and for scripts. Imports are lazy."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from sync_assets.foreign_text import cleaned, json_text, printable

if TYPE_CHECKING:
    from sync_assets.runtime.context import Runtime

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Table = Annotated[str | None, typer.Argument(help="A mapped table; all if left out.", show_default=False)]

_RUNTIMES: list[Runtime] = []
"""Closed at the end, however a command ends."""


def open_runtime(*, creates: bool = False) -> Runtime:
    """Return the runtime of a command.

    Args:
        creates: True if the command may create the ledger. Without a ledger, others end with an error.
    """
    from sync_assets.runtime.context import Runtime  # noqa: PLC0415

    private_files()
    runtime = Runtime(may_create_ledger=creates, announce=say)
    _RUNTIMES.append(runtime)
    return runtime


def close_runtimes() -> None:
    """Close the runtimes."""
    while _RUNTIMES:
        _RUNTIMES.pop().close()


def private_files() -> None:
    """Let only their owner read the files and folders that this process and its children create from now on."""
    os.umask(os.umask(0o077) | 0o077)


def say(line: object) -> None:
    """Print a line on standard error. It may quote a file's name or a server's words."""
    typer.echo(f"sync-assets: {printable(str(line))}", err=True)


def end(status: int, why: object, then: str = "") -> NoReturn:
    """End with an exit status other than 0. The last line on standard error: why, and the command that leads on.

    then: a sentence with that command, unless `why` names one; by default the command of this process, again.
    """
    close_runtimes()
    *lines, last = str(why).splitlines() or [""]
    for line in lines:
        say(line)
    sentence = last if last.endswith((".", "?", "!")) else f"{last}."
    say(last if "`sync-assets " in last else f"{sentence} {then or f'Then run `{invoked()}` again.'}")
    raise SystemExit(status)


def fail(*errors: object) -> NoReturn:
    """End with exit status 1 because of the errors."""
    end(1, "\n".join(map(str, errors)))


def invoked() -> str:
    """Return the command of this process without its arguments, as a user types it."""
    words = [word for word in sys.argv[1:3] if not word.startswith("-")]
    return " ".join(["sync-assets", *words[: 2 if words[:1] in (["hold"], ["maintenance"]) else 1]])


def print_document(document: Any, as_json: bool, show: Callable[[Any], None]) -> None:
    """Print a document. Its texts may be those of a server, so none reaches the terminal with control characters."""
    if as_json:
        typer.echo(json_text(document))
    else:
        show(cleaned(document))


def progress(runtime: Runtime) -> AbstractContextManager[None]:
    """Show progress on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        return nullcontext()
    from sync_assets.cli.progress import progress_on_terminal  # noqa: PLC0415

    return progress_on_terminal(runtime)


def let_sigterm_interrupt() -> None:
    """Treat SIGTERM like Ctrl-C, so that a scratch copy of the ledger, which may hold personal data, is removed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def interruptible(consequence: str) -> Iterator[None]:
    """End with status 130 on Ctrl-C, and print the consequence: a sentence for people."""
    try:
        yield
    except (KeyboardInterrupt, typer.Abort):  # a prompt of typer makes the second one of the first
        end(130, f"Interrupted. {consequence} Run `{invoked()}` again to go on.")


def check_table(runtime: Runtime, table: str | None) -> None:
    """Raise an error if a table is named that is not mapped."""
    from sync_assets.operations.status import unknown_tables  # noqa: PLC0415

    if table and (error := unknown_tables(runtime, [table])):
        raise error
