"""`doctor`: when the two systems were certified, and what was not workable. Reads the ledger only."""

from __future__ import annotations

from sync_assets.audit.certification.stored_report import stored_report, unfinished
from sync_assets.commands.certify import STAGE, tenant_of
from sync_assets.ledger.times import iso
from sync_assets.operations.diagnosis_line import Line
from sync_assets.runtime.context import Runtime

_WHAT = "certification"


def certification_lines(runtime: Runtime) -> list[Line]:
    """Return a line for the last certification of these systems, and one for each premise that is not workable."""
    report = stored_report(runtime.ledger, runtime.config)
    lines: list[Line] = []
    if message := unfinished(report, runtime.config):
        lines.append(Line("warn", f"{_WHAT} under way", message))
    if report.at:
        by = f" by version {report.version}" if report.version else ""
        found = "" if report.not_workable else ", all workable"
        lines.append(Line("ok", _WHAT, f"the last one ended {iso(report.at)}{by}{found}"))
    elif tenant_of(runtime.settings.links()[1] or "").endswith(STAGE):
        message = "never. `sync-assets certify` finds out how both systems behave, with synthetic records"
        lines.append(Line("warn", _WHAT, message))
    else:
        lines.append(Line("ok", _WHAT, f"never: `sync-assets certify` is for a stage tenant (…{STAGE})"))
    way = "`sync-assets certify` tries it again, and names what to change"
    return [
        *lines,
        *(
            Line("warn", f"{_WHAT} of {wrong.about or wrong.system}: {wrong.premise}", f"{wrong.found}. {way}")
            for wrong in report.not_workable
        ),
    ]
