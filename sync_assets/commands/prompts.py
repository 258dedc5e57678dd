"""Ask questions on the terminal, so that Ctrl-C ends them."""

from __future__ import annotations

import signal

import typer


def confirm(question: str) -> bool:
    """Ask for yes or no on standard error. Raises typer.Abort on Ctrl-C and at the end of the input."""
    _let_ctrl_c_end_reads()
    return typer.confirm(question, err=True)


def ask(question: str, default: str | None = None, *, err: bool = False) -> str:
    """Ask for a text, without blanks around it. Raises typer.Abort on Ctrl-C and at the end of the input."""
    _let_ctrl_c_end_reads()
    answer: str = typer.prompt(question, default=default, err=err)
    return answer.strip()


def _let_ctrl_c_end_reads() -> None:
    """Let signals end a read of the terminal, which would else go on as if nothing had happened.

    Polars installs a handler of its own for SIGINT, in front of Python's, that restarts interrupted system calls.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.siginterrupt(number, True)
