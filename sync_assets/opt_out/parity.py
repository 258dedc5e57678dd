"""Compare the opt-outs of contacts that an audit lists in both systems; find differences that should not exist.

A difference is allowed if the change is more recent than the time that the direction needs to carry it, or if the
direction does not carry it. The list and the rows are read by audit/record_audit.py.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sync_assets.campaign.profile_opt_outs import opt_out
from sync_assets.checks.opt_out_columns import opt_out_columns
from sync_assets.config.models import Config, OptOutConfig
from sync_assets.config.opt_out import ActiveDirection
from sync_assets.dataverse.metadata import MODIFIED, Table
from sync_assets.ledger import Ledger, times
from sync_assets.ledger.rules.opt_outs import OptOutState
from sync_assets.opt_out.decide import SideValue, decide

PUSHED_WITHIN = timedelta(minutes=15)
"""The sensors carry a change in D365 within seconds; this allows for a busy hour."""
SLACK = timedelta(hours=1)


def allowed(opt_out: OptOutConfig, side: str) -> timedelta:
    """Return how long a change in one system may take to reach the other one."""
    if side == "d365":
        return PUSHED_WITHIN
    if opt_out.poll_profiles_minutes is not None:
        return timedelta(minutes=2 * opt_out.poll_profiles_minutes) + PUSHED_WITHIN
    return timedelta(hours=opt_out.export.expected_every_hours) + SLACK


def judge(
    opt_out: OptOutConfig,
    direction: ActiveDirection,
    d365: SideValue,
    campaign: SideValue,
    applied: datetime | None,
    now: datetime,
) -> str:
    """Return `agree`, `on the way` or `differ` for one opt-out. Pure.

    A change that the direction does not carry may differ permanently, and counts as agreement: an opt-out made in
    Dynamics 365 after the last change in Campaign (campaign_to_d365), or in Campaign (d365_to_campaign). An opt-out
    that is missing in Campaign may not, nor one that Campaign stated and Dynamics 365 lost.

    Args:
        opt_out: the configuration.
        direction: of the opt-out flows.
        d365, campaign: the values of the two systems.
        applied: time of change of the last change in Campaign that was carried.
        now: the current time.
    """
    carried = applied is not None and campaign[1] is not None and campaign[1] <= applied
    decision = decide(direction, d365, campaign, now, again=carried)
    if decision.write is None or (direction == "d365_to_campaign" and not decision.value):
        return "agree"
    if direction == "campaign_to_d365":
        # Dynamics 365 has changed what was carried: the next file, poll or replay that has the profile writes it again.
        changed, side = d365[1] if carried else campaign[1], "campaign"
    else:
        from_campaign = decision.write == "d365"
        changed, side = (campaign[1], "campaign") if from_campaign else (d365[1], "d365")
    # Without a time of change it cannot be shown to be recent.
    return "on the way" if changed is not None and now - changed <= allowed(opt_out, side) else "differ"


class Parity:
    """Compares the opt-outs of listed profiles with the rows of their contacts. columns: that it reads of contact."""

    def __init__(self, config: Config, ledger: Ledger, table: Table) -> None:
        assert config.opt_out.direction != "disabled"
        self._direction: ActiveDirection = config.opt_out.direction
        self._opt_out, self._ledger = config.opt_out, ledger
        self._columns = [(column, table.columns[column.name].select_name) for column in opt_out_columns(config, table)]
        self.columns: Sequence[str] = [MODIFIED, *(column.name for column, _ in self._columns)]

    def __call__(
        self, profiles: Mapping[str, Mapping[str, Any]], rows: Mapping[str, Mapping[str, Any]]
    ) -> tuple[int, int, Mapping[str, list[str]]]:
        """Return how many opt-outs were compared, how many may still differ, and by attribute the ids that differ.

        profiles, rows: by id; each profile has a row.
        """
        stored = self._ledger.opt_outs.of(list(profiles))
        applied = {(row.id, row.attribute): row.campaign_at for row in stored if row.state == OptOutState.SYNCED}
        now, verdicts, differing = datetime.now(UTC), Counter[str](), defaultdict[str, list[str]](list)
        for id_, profile in profiles.items():
            modified = rows[id_][MODIFIED]
            moment = datetime.fromisoformat(modified).astimezone(UTC).replace(microsecond=0) if modified else None
            for column, name in self._columns:
                d365 = column.opted_out(rows[id_][name]), moment
                campaign = opt_out(dict(profile), column.attribute)
                since = times.instant(applied.get((id_, column.attribute)))
                verdict = judge(self._opt_out, self._direction, d365, campaign, since, now)
                verdicts[verdict] += 1
                if verdict == "differ":
                    differing[column.attribute].append(id_)
        return verdicts.total(), verdicts["on the way"], differing
