"""The Dagster instance that the command line works with: the one that `dagster dev` in the same folder uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

PACKAGED = Path(__file__).with_name("dagster.yaml")


@contextmanager
def dagster_instance() -> Iterator[dg.DagsterInstance]:
    """DAGSTER_HOME's; else of `dagster.yaml` in the current folder; else one under `.dagster/` there."""
    home = os.environ.get("DAGSTER_HOME")
    if home:
        Path(home).mkdir(parents=True, exist_ok=True)
        folder = Path(home).absolute()
    elif Path("dagster.yaml").is_file():
        folder = Path.cwd()
    else:
        folder = Path(".dagster").absolute()
        folder.mkdir(exist_ok=True)
    if not (folder / "dagster.yaml").is_file():
        (folder / "dagster.yaml").write_text(PACKAGED.read_text(encoding="utf-8"), encoding="utf-8")
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        yield instance
