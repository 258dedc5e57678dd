"""What operators do during a simulated run, and what happens to both services: faults, expired tokens, refusals."""

import asyncio
from dataclasses import replace
from typing import Any

from sync_assets.ledger import Ledger
from sync_assets_tests.simulation.network import FaultPlan, Network
from sync_assets_tests.simulation.observed import Refusal, Replay
from sync_assets_tests.simulation.services import Services
from sync_assets_tests.simulation.timeline import row_id


class Operators:
    """Methods named as kinds of moves carry them out. url: of the ledger. refusals, replays: as in `Observed`."""

    def __init__(self, services: Services, network: Network, url: str) -> None:
        self._services, self._network, self._url = services, network, url
        self.refusals: list[Refusal] = []
        self.replays: list[Replay] = []

    def network_faults(self, **values: Any) -> None:
        self._network.add(FaultPlan(**values))

    def tokens_expire(self) -> None:
        self._services.entra.expire_tokens()
        self._services.ims.expire_tokens()

    def feed_expires(self, table: str) -> None:
        self._services.org.expire_tokens(self._services.org.store(table))

    def refusal(self, table: str, row: int, hours: float) -> None:
        id_, since = row_id(table, row), self._services.moment()
        if id_ in self._services.refused:
            return
        self._services.refused.add(id_)
        self.refusals.append(Refusal(table, id_, since))
        asyncio.get_running_loop().call_later(hours * 3600, self._accept, id_)

    def _accept(self, id_: str) -> None:
        if id_ in self._services.refused:
            self._services.refused.discard(id_)
            until = self._services.moment()
            self.refusals = [
                replace(one, until=until) if (one.id, one.until) == (id_, None) else one for one in self.refusals
            ]

    def accept_all(self) -> None:
        """Let Campaign refuse no record any more."""
        self._services.refused.clear()
        moment = self._services.moment()
        self.refusals = [replace(one, until=one.until or moment) for one in self.refusals]

    def replay(self, table: str, *, resend: bool) -> None:
        with Ledger.open(self._url) as ledger:
            if ledger.replays.replay_everything(table, resend=resend):
                kind = "forced replay" if resend else "replay"
                self.replays.append(Replay(self._services.moment(), table, kind))

    def retry(self, table: str) -> None:
        with Ledger.open(self._url) as ledger:
            ledger.claims.retry(table)
        self.replays.append(Replay(self._services.moment(), table, "retry"))
