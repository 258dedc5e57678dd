"""The opt-outs of `sync`: process waiting files in their order, then decide and write what is due, until nothing moves.

A file that may still be written is waited for, `settle_seconds` and a minute: a user who runs `sync` expects that the
files in the folder are processed. A file that grows for longer is left for the next sync; all else goes on.
"""

import math
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import dagster as dg

from sync_assets.defs.asset_keys import CHANGES, file_chain, key_of
from sync_assets.defs.opt_out.assets import opt_out_assets
from sync_assets.defs.partitions import WORK, add_partition, run_tags
from sync_assets.defs.tables.assets import table_assets
from sync_assets.defs.tables.run_requests import end_killed
from sync_assets.errors import SyncAssetsError
from sync_assets.flows import Outcome
from sync_assets.ledger.repositories.opt_out_files import OptOutFile
from sync_assets.opt_out.export import folder
from sync_assets.opt_out.profile_polling import poll_is_due
from sync_assets.runtime.context import Runtime

SETTLING_SECONDS = 60.0
"""How long a growing file is waited for, beyond the time that it needs to settle."""
POLL_SECONDS = 1.0
ROUNDS = 20

Execute = Callable[..., None]


def sync_opt_outs(runtime: Runtime, instance: dg.DagsterInstance, execute: Execute) -> Outcome:
    """Run all flows of opt-outs, and return their outcome."""
    end_killed(instance, runtime.ledger, WORK)

    def run(keys: list[dg.AssetKey], partition: str | None = None) -> Outcome:
        outcome = Outcome()
        assets = [*table_assets(runtime), *opt_out_assets(runtime, outcome)]
        execute(runtime, outcome, instance, assets, keys, partition, run_tags(runtime, WORK))
        return outcome

    def take(partition: str) -> Outcome:
        add_partition(instance, partition, runtime.installation.name)
        return run(file_chain(runtime), partition)

    waiting = _WaitingFiles(runtime, take)
    outcome = waiting.found
    try:
        waiting.consume()
    except SyncAssetsError as error:  # an unreachable SFTP must not hold back changes of Dynamics 365
        outcome.problems.append(error)
    outcome.add(_process_due(runtime, lambda: run([key_of(CHANGES, runtime)])))
    if not runtime.ledger.opt_outs.left(runtime.config.opt_out.attributes).due:
        # A later run has made up for runs that ended early, so their reasons become notes; those of files stay.
        outcome.note(outcome.stopped)
        outcome.stopped = []
    outcome.stopped += waiting.refused
    return outcome


Version = tuple[str, datetime, int]


def _version(file: OptOutFile) -> Version:
    return file.name, file.modified, file.size


class _WaitingFiles:
    """The files that wait in the folder, the outcome of their runs, and why some that are still there were refused."""

    def __init__(self, runtime: Runtime, run: Callable[[str], Outcome]) -> None:
        self._runtime, self._run = runtime, run
        self._tried: dict[Version, list[str]] = {}
        self._announced: set[str] = set()
        self.found = Outcome()
        self.refused: list[str] = []

    def consume(self) -> None:
        """Process each file that is ready, in their order; wait for files that may still be written."""
        runtime = self._runtime
        waited = runtime.config.opt_out.export.settle_seconds + SETTLING_SECONDS
        give_up_at = time.monotonic() + waited
        while True:
            poll = folder.poll_folder(runtime)
            self._report(poll)
            ready = [file for file in poll.ready if _version(file) not in self._tried]
            for file in ready:
                self._take(file)
                if self.found.problems:
                    return  # the same problem would stop the other files
            if ready:
                continue  # poll again: processed files have been tidied away
            if not poll.unsettled:
                return
            if time.monotonic() > give_up_at:
                names = ", ".join(file.name for file in poll.unsettled)
                self.refused.append(f"{names}: still being written after {waited:.0f} s; left for the next sync.")
                return
            self._announce(poll.unsettled)
            runtime.progress("waiting for files to settle", 0)
            time.sleep(POLL_SECONDS)

    def _take(self, file: OptOutFile) -> None:
        outcome = self._run(file.partition)
        texts = [text for text in outcome.stopped if text.startswith(f"{file.partition}: ")]
        outcome.stopped = [text for text in outcome.stopped if text not in texts]
        self.found.add(outcome)
        self._tried[_version(file)] = texts
        self.refused += texts

    def _announce(self, unsettled: Sequence[OptOutFile]) -> None:
        """Announce once for each file that it is waited for, unless it needs nothing but a second poll."""
        settle = self._runtime.config.opt_out.export.settle_seconds
        waits = {file.name: folder.seconds_to_settle(file, settle) for file in unsettled}
        waits = {name: wait for name, wait in waits.items() if wait > 0 and name not in self._announced}
        if waits:
            self._announced |= waits.keys()
            seconds, names = math.ceil(max(waits.values())), ", ".join(waits)
            self._runtime.announce(f"Waiting {seconds} s for {names} to settle; longer if it is still being written.")

    def _report(self, poll: folder.FolderPoll) -> None:
        """Add notes about the folder's files, and drop those of this sync about files that are no longer present.

        A changed file counts as another one, which is processed in its turn.
        """
        directory = self._runtime.config.opt_out.export.directory
        texts = [f"{name} in {directory} is passed over: {why}." for name, why in poll.passed_over]
        texts += [*poll.troubles, *(f"{file.partition}: {file.reason}" for file in poll.refused)]
        self.found.note(texts)
        present = {_version(file) for file in (*poll.ready, *poll.unsettled, *poll.refused)}
        outdated = {text for version, texts in self._tried.items() if version not in present for text in texts}
        self.refused = [text for text in self.refused if text not in outdated]


def _process_due(runtime: Runtime, run: Callable[[], Outcome]) -> Outcome:
    """Poll profiles if that is due, then decide and write what is due, until nothing moves."""
    outcome = Outcome()
    for _ in range(ROUNDS):
        counts_before = runtime.ledger.opt_outs.left(runtime.config.opt_out.attributes)
        if not counts_before.due and not poll_is_due(runtime, datetime.now(UTC)):
            break
        outcome.add(run())
        if outcome.problems or runtime.ledger.opt_outs.left(runtime.config.opt_out.attributes) == counts_before:
            break
    return outcome
