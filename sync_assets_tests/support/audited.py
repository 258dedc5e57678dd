"""Audit the first table of an installation in this process."""

from contextlib import closing

from sync_assets.audit.audit_result import AuditResult
from sync_assets.audit.record_audit import audit_table
from sync_assets.commands.audit import opt_outs_of
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.pkeys import ListedKeys


def audited(runtime: Runtime, pages: int | None = None) -> AuditResult:
    """Return the result of an audit, or with `pages` of a part of the list, as of a day."""
    config, kind = runtime.config.tables[0], "daily" if pages else "audit"
    with closing(ListedKeys()) as keys:
        opt_outs = opt_outs_of(runtime.config, runtime.ledger, config)
        return interruptible.run(audit_table(runtime, config, keys, kind, pages, opt_outs))
