"""List what one changed row enters: `python -m sync_assets_tests.trace sync --row [--list]`.

A second `sync` of one table with one changed contact, against a sandbox, as the command line runs it. Counts the
named functions of the package that it enters, and their files: before the capture begins, and from then on. `--list`
prints each file with its functions.
"""

import argparse
import os
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Mapping
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import sync_assets
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.sandbox_process import SandboxProcess

PACKAGE = Path(sync_assets.__file__).parent
CAPTURE = "capture_table"
Entered = Mapping[str, set[str]]
"""Names of the functions that were entered, by file."""


class Tracer:
    """Collects the functions of the package that are entered, until the capture and from then on."""

    def __init__(self) -> None:
        self.seen: dict[CodeType, bool] = {}
        self.captures = False

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code not in self.seen and code.co_filename.startswith(str(PACKAGE)):
            self.captures |= code.co_name == CAPTURE
            self.seen[code] = self.captures

    def entered(self, captures: bool | None = None) -> Entered:
        """Return all functions, or those first entered before the capture (False) or from then on (True)."""
        files: defaultdict[str, set[str]] = defaultdict(set)
        for code, since in self.seen.items():
            file = str(Path(code.co_filename).relative_to(PACKAGE))
            is_function = code.co_flags & CO_OPTIMIZED and not code.co_name.startswith("<")
            if is_function and captures in (None, since) and not file.startswith("sandbox"):
                files[file].add(f"{code.co_qualname}:{code.co_firstlineno}")
        return files


def changed_row() -> Tracer:
    """Sync a sandbox of one contact, change it, and trace the second `sync`."""
    with SandboxProcess(1) as sandbox, tempfile.TemporaryDirectory() as folder:
        program = Program(sandbox, Path(folder), dagster=True, on_disk=True)
        status, _, errors = program.run("sync")
        assert status == 0, errors
        [contact] = sandbox.admin.dump_d365()
        sandbox.admin.change("contact", [contact["contactid"]], jobtitle="changed")
        os.environ.update(program.env)
        os.chdir(folder)
        tracer = Tracer()
        threading.setprofile(tracer)
        sys.setprofile(tracer)
        try:
            from sync_assets.cli.main import main as command_line

            sys.argv = ["sync-assets", "sync"]
            command_line()
        except SystemExit as ended:
            if ended.code:
                raise
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
        assert program.profiles()[contact["contactid"]]["cusJobTitle"] == "changed"
        return tracer


def size(files: Entered) -> str:
    return f"{sum(map(len, files.values()))} functions in {len(files)} files"


def main() -> None:
    """Print the numbers, and with `--list` the names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["sync"])
    parser.add_argument("--row", action="store_true", required=True, help="of one changed row")
    parser.add_argument("--list", action="store_true", help="print files and functions, too")
    options = parser.parse_args()
    tracer = changed_row()
    for title, captures in (("before the capture", False), ("from the capture on", True), ("in all", None)):
        files = tracer.entered(captures)
        print(f"{title}: {size(files)}")
        for file, names in sorted(files.items()) if options.list and captures is not None else ():
            print(f"  {file}: {', '.join(sorted(names))}")


if __name__ == "__main__":
    main()
