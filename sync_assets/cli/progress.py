"""Show the progress of a long command: records of how many, records per second, remaining time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from sync_assets.runtime.context import Runtime


@contextmanager
def progress_on_terminal(runtime: Runtime, console: Console | None = None) -> Iterator[None]:
    """Show the runtime's activities while the block runs. console: default is standard error."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), _Records(), TimeElapsedColumn())
    with Progress(*columns, console=console or Console(stderr=True)) as bar:
        tasks: dict[str, tuple[TaskID, int]] = {}  # activity -> (task, records when it was called last)

        def show(what: str, records: int) -> None:
            id_, before = tasks.get(what) or (bar.add_task(what, total=None), 0)
            if records < before:  # the activity began anew
                bar.reset(id_)
            tasks[what] = (id_, records)
            total = runtime.totals.get(what)
            # More may have come since the total was counted.
            bar.update(id_, completed=records, total=max(total, records) if total else None)

        runtime.progress = show
        yield


class _Records(ProgressColumn):
    """The column of records, rate and remaining time."""

    def render(self, task: Task) -> Text:
        return Text(progress_text(task.completed, task.total, task.finished_speed or task.speed))


def progress_text(done: float, total: float | None, rate: float | None) -> str:
    """Return the progress in words: `1,200 of 30,000 records, 400/s, 1:12 left`.

    Args:
        done: records so far.
        total: None if it is not known.
        rate: records per second; None if not known yet.
    """
    text = f"{done:,.0f} of {total:,.0f} records" if total else f"{done:,.0f} records"
    if rate:
        text += f", {rate:,.0f}/s"
        if total and total > done:
            text += f", {_duration((total - done) / rate)} left"
    return text


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
