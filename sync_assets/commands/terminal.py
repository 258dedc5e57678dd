"""The terminal side that commands share: options, questions, progress, tables, and the one line at the end.

Invariants: with `--json` standard output holds one document and nothing else. Texts may be a server's or a file's, so
none reaches the terminal as markup or with control characters.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import rich.progress
import typer
from rich.console import Console
from rich.progress import ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from sync_assets.config.files import CONFIG, SANDBOX_CONFIG, component_of, find_configuration
from sync_assets.errors import SyncAssetsError
from sync_assets.foreign_text import cleaned, json_text, printable

if TYPE_CHECKING:
    from sync_assets.commands.values import Result
    from sync_assets.runtime.context import Runtime
    from sync_assets.runtime.progress import Progress


def mapped_tables(incomplete: str) -> list[str]:
    """Complete the name of a mapped table, by the configuration alone."""
    from sync_assets.config.environment import Settings  # noqa: PLC0415
    from sync_assets.config.loader import load_config  # noqa: PLC0415

    try:
        tables = load_config(Settings.from_environment(os.environ).configuration()).tables
    except SyncAssetsError:
        return []
    return [config.table for config in tables if config.table.startswith(incomplete)]


def named_table(table: Any) -> Any:
    """Refuse an empty name, as of a variable of the shell that is not set: it would stand for all tables."""
    if "" in (table if isinstance(table, list) else [table]):
        raise typer.BadParameter("A table's name is empty.")
    return table


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
NAMED: dict[str, Any] = {"autocompletion": mapped_tables, "callback": named_table}
"""Of each argument and option with names of tables."""
OneTable = Annotated[str, typer.Argument(metavar="TABLE", help="A mapped table.", **NAMED)]
OptionalTable = Annotated[
    str | None, typer.Argument(metavar="TABLE", help="A mapped table; all if left out.", show_default=False, **NAMED)
]
TableOption = Annotated[str | None, typer.Option("--table", help="Only this mapped table.", **NAMED)]
TablesOption = Annotated[
    list[str] | None, typer.Option("--table", help="Only this mapped table; may be repeated.", **NAMED)
]
NewLedger = Annotated[
    bool, typer.Option("--new-ledger", help="Accept an empty ledger in place of the configuration's.")
]
AcceptMapping = Annotated[
    bool, typer.Option("--accept-mapping", help="Accept another resource or key, or a mapping changed back and forth.")
]

INTERRUPTED = 130
"""The exit status after Ctrl-C."""
_RUNTIMES: list[Runtime] = []  # closed at the end, however a command ends
_DOCUMENTS: list[Any] = []  # printed as JSON


def open_runtime(**use: Any) -> Runtime:
    """Return the runtime of a command. use: as in `RunOptions`; without, the command may not create the ledger.

    Raises NoConfiguration. Announces that the sandbox's configuration stands before one that is found.
    """
    from sync_assets.config.environment import NoConfiguration  # not for `--help`  # noqa: PLC0415
    from sync_assets.config.installation import Installation  # noqa: PLC0415
    from sync_assets.runtime.context import Runtime  # noqa: PLC0415
    from sync_assets.runtime.ledger_access import RunOptions  # noqa: PLC0415

    private_files()
    named = os.environ.get(CONFIG, "").strip()
    if not named:
        raise NoConfiguration
    installation = Installation.of(component_of(Path(named)))
    runtime = Runtime(installation=installation, use=replace(RunOptions(may_create=False, announce=say), **use))
    _RUNTIMES.append(runtime)
    if named == str(SANDBOX_CONFIG) and (own := find_configuration()):
        say(f"{CONFIG} names the sandbox's configuration. To use {own}, write `--config {own}`.")
    return runtime


def close_runtimes() -> None:
    while _RUNTIMES:
        _RUNTIMES.pop().close()


def private_files() -> None:
    """Let only their owner read the files and folders that this process and its children create from now on."""
    os.umask(os.umask(0o077) | 0o077)


# --- Lines and the end ------------------------------------------------------------------------------------------------


def say(line: object) -> None:
    """Print a line on standard error."""
    typer.echo(f"sync-assets: {printable(str(line))}", err=True)


class Ended(SystemExit):
    """Raised by `end`, whose line is printed."""


def end(status: int, why: object, remedy: str = "") -> NoReturn:
    """End with an exit status other than 0. The last line on standard error: why, and the command that leads on.

    With `--json`, all lines are also the document on standard output, unless the command has printed one.

    remedy: a sentence with that command, unless `why` names one; by default the command of this process, again.
    """
    if status == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    close_runtimes()
    *lines, last = str(why).splitlines() or [""]
    sentence = last if last.endswith((".", "?", "!")) else f"{last}."
    lines.append(last if "`sync-assets " in last else f"{sentence} {remedy or f'Then run `{invoked()}` again.'}")
    with suppress(OSError):  # such as a full disk
        if "--json" in sys.argv and not _DOCUMENTS:
            typer.echo(json_text({"problems": lines}))
    with suppress(OSError):
        for line in lines:
            say(line)
    raise Ended(status)


def drop_unwritten() -> None:
    """Drop what standard output and error did not take: Python would try again when it ends, and end with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def fail(*errors: object) -> NoReturn:
    """End with exit status 1 because of the errors."""
    end(1, "\n".join(map(str, errors)))


def invoked() -> str:
    """Return the command of this process without its arguments, as a user types it."""
    words = [word for word in sys.argv[1:3] if not word.startswith("-")]
    return " ".join(["sync-assets", *words[: 2 if words[:1] in (["hold"], ["maintenance"], ["sandbox"]) else 1]])


def let_sigterm_interrupt() -> None:
    """Treat SIGTERM like Ctrl-C, so that a scratch copy of the ledger, which may hold personal data, is removed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def on_interrupt(consequence: str) -> Iterator[None]:
    """End with status 130 on Ctrl-C inside the block, and print the consequence: a sentence for people."""
    try:
        yield
    except (KeyboardInterrupt, typer.Abort):  # typer's prompts turn the first into the second
        end(INTERRUPTED, f"Interrupted. {consequence} Run `{invoked()}` again to go on.")


# --- Questions --------------------------------------------------------------------------------------------------------


def confirm(question: str) -> bool:
    """Ask for yes or no on standard error. Raises typer.Abort on Ctrl-C and at the end of the input."""
    _let_ctrl_c_end_reads()
    return typer.confirm(question, err=True)


def ask(question: str) -> str:
    """Ask for a text on standard error. Raises typer.Abort on Ctrl-C and at the end of the input."""
    _let_ctrl_c_end_reads()
    return str(typer.prompt(question, err=True)).strip()


def _let_ctrl_c_end_reads() -> None:
    """Let signals end a read of the terminal, which would else go on as if nothing had happened.

    Polars installs a handler of its own for SIGINT, in front of Python's, that restarts interrupted system calls.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.siginterrupt(number, True)


# --- Documents and tables ---------------------------------------------------------------------------------------------


WRAPPED, UNLIMITED = 16, 1_000_000
"""Characters: of the narrowest column of wrapped texts, and of a line of a pipe."""
_PLAIN: dict[str, Any] = {"box": None, "header_style": "bold", "pad_edge": False}
Part = str | Text | Table
Parts = Iterator[Part]
"""A document for people: lines and tables."""


def print_document(document: Any, as_json: bool, show: Callable[[Any], Iterable[Part] | None]) -> None:
    """Print a document, as JSON or by its function for people."""
    if as_json:
        from sync_assets.commands.values import builtins  # not for `--help`  # noqa: PLC0415

        _DOCUMENTS.append(document)
        typer.echo(json_text(builtins(document)))
    else:
        print_parts(show(cleaned(document)) or ())


def finish(done: Result[Any], as_json: bool, show: Callable[[Any], Iterable[Part]]) -> None:
    """Print the result of a command, and end with its exit status if there are problems."""
    for line in dict.fromkeys(done.notes):
        say(line)
    if done.document:
        print_document(done.document, as_json, show)
    if done.problems:
        end(done.status, "\n".join(dict.fromkeys(map(str, done.problems))))


def print_parts(parts: Iterable[Part]) -> None:
    """Print lines and tables. A line is not wrapped, except for a Text with `no_wrap=False` on a terminal."""
    for part in parts:
        if isinstance(part, Table):
            print_table(part)
        else:
            print_line(part)


def print_line(text: str | Text) -> None:
    """Print a text on one line."""
    console = _console()
    wrapped = isinstance(text, Text) and text.no_wrap is False and console.is_terminal
    console.print(text, highlight=False, soft_wrap=not wrapped)


def _console() -> Console:
    """Return a console as wide as the terminal. Rich alone takes every dumb terminal for one of 80 columns."""
    width, height = shutil.get_terminal_size()
    return Console(markup=False, emoji=False, width=width, height=height)


def plain_table(
    *columns: str, rows: Iterable[Sequence[str | Text | int | None]] = (), numbers: Sequence[str] = ()
) -> Table:
    """Return a table. A number is shown with separators, None as `-`. numbers: the columns of numbers."""
    table = Table(**_PLAIN)
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", no_wrap=column in numbers)
    for row in rows:
        table.add_row(*("-" if cell is None else f"{cell:,}" if isinstance(cell, int) else cell for cell in row))
    return table


def number_table(title: str, columns: Sequence[str], rows: Mapping[str, Mapping[str, int] | Sequence[int]]) -> Table:
    """Return a table of numbers with a line for each name, and a line with their sums if there are several.

    rows: by name, the numbers by column, or in the order of the columns.
    """
    numbers = [[row[name] for name in columns] if isinstance(row, Mapping) else row for row in rows.values()]
    lines = [(name, *line) for name, line in zip(rows, numbers, strict=True)]
    table = plain_table(title, *columns, rows=lines, numbers=columns)
    if len(rows) > 1:
        table.add_row("in all", *(f"{sum(column):,}" for column in zip(*numbers, strict=True)), style="bold")
    return table


def kinds(calls: Mapping[str, int]) -> str:
    """Return engine calls by kind on one line."""
    return ", ".join(f"{number:,} {kind}" for kind, number in calls.items())


def print_table(table: Table) -> None:
    """Print a table. All tables of all commands are printed here, and no number, time, id or name is cut or broken.

    On a terminal, texts are wrapped between words. If the columns do not fit even then, each row becomes a block with
    a line for each column. Elsewhere, as in a pipe, the width has no limit.
    """
    console, needed = _console(), 2 * (len(table.columns) - 1)  # two blanks between columns
    available = console.width if console.is_terminal else UNLIMITED
    console.width = UNLIMITED
    flexible: list[tuple[int, Column]] = []  # characters of the longest text beyond the narrowest width
    for column in table.columns:
        cells = (column.header, *column.cells)
        sizes = [console.measure(cell) for cell in cells]
        indent = max(len(text) - len(text.lstrip()) for text in map(str, cells))
        longest, word = max(size.maximum for size in sizes), max(size.minimum for size in sizes) + indent
        column.width = longest if column.no_wrap else max(word, min(longest, WRAPPED))
        flexible.append((longest - column.width, column))
        needed += column.width
    if available < needed and len(table.columns) > 2:
        print_parts(_blocks(table))
        return
    # Rich would also narrow columns that cannot be wrapped, and cut what is then too long.
    for number, (more, column) in enumerate(sorted(flexible, key=itemgetter(0))):
        added = min(more, max(available - needed, 0) // (len(flexible) - number))
        column.width = (column.width or 0) + added
        needed += added
    console.print(table)


def _blocks(table: Table) -> Parts:
    """Yield a table of two columns for each row: the names of the columns, and the cells."""
    title, *names = (column.header for column in table.columns)
    for number, (first, *cells) in enumerate(zip(*(column.cells for column in table.columns), strict=True)):
        if number:
            yield ""
        block = Table(Column(title), Column(first), **_PLAIN)
        for name, cell in zip(names, cells, strict=True):
            block.add_row(name, cell)
        yield block


# --- Progress ---------------------------------------------------------------------------------------------------------


@contextmanager
def progress(activities: Progress, console: Console | None = None) -> Iterator[None]:
    """Show the activities while the block runs. console: default is standard error, if it is a terminal."""
    if console is None and not sys.stderr.isatty():
        yield
        return
    words = TextColumn("{task.description}", table_column=Column(overflow="fold"))
    columns = (SpinnerColumn(), words, _Records(Column(overflow="fold")), TimeElapsedColumn())
    with rich.progress.Progress(*columns, console=console or Console(stderr=True)) as bar:
        tasks: dict[str, tuple[TaskID, int]] = {}  # activity -> (task, records when it was called last)

        def show(activity: str, records: int, total: int | None) -> None:
            id_, last_records = tasks.get(activity) or (bar.add_task(activity, total=None), 0)
            if records < last_records:  # the activity began anew
                bar.reset(id_)
            tasks[activity] = (id_, records)
            # More may have come since the total was counted.
            bar.update(id_, completed=records, total=max(total, records) if total else None)

        with activities.shown_by(show):
            yield


class _Records(ProgressColumn):
    """The column of records, rate and remaining time."""

    def render(self, task: Task) -> Text:
        return Text(progress_text(task.completed, task.total, task.finished_speed or task.speed))


def progress_text(done: float, total: float | None, rate: float | None) -> str:
    """Return the progress in words: `1,200 of 30,000 records, 400/s, 1:12 left`. rate: records a second."""
    if not (done or total):
        return ""  # a wait
    text = f"{done:,.0f} of {total:,.0f} records" if total else f"{done:,.0f} records"
    if rate:
        text += f", {rate:,.0f}/s"
        if total and total > done:
            minutes, seconds = divmod(round((total - done) / rate), 60)
            hours, minutes = divmod(minutes, 60)
            text += f", {hours}:{minutes:02}:{seconds:02} left" if hours else f", {minutes}:{seconds:02} left"
    return text
