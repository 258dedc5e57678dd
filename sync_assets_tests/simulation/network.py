"""The network of a simulation, in place of `AiohttpClient.exchange`: what happens to a request and its answer.

In calm times each takes some milliseconds, so that requests overtake each other. In a storm they are also delayed for
long, cut before or after the service handled them, handled when the caller has given up, answered with rubbish,
throttled, or refused for their token.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from multidict import CIMultiDict

from sync_assets.http.aiohttp_transport import AiohttpClient
from sync_assets.http.transport import NotSent, OutcomeUnknown, Response
from sync_assets.sandbox import campaign, dataverse
from sync_assets.sandbox.faults import Rule
from sync_assets.sandbox.middleware import plain_answer
from sync_assets_tests.simulation.clock import PROCESS, neutral
from sync_assets_tests.simulation.services import HOSTS, Answered, Services

CALM_SECONDS = 0.05
SLOW_SECONDS = 20.0
LATE_SECONDS = 3.0
"""How long after the caller has given up a request may be handled."""
REFUSALS = ("throttle", "unavailable", "unauthorized")
KINDS = ("not_sent", "cut_before", "cut_after", "late", "slow", "silent", "rubbish", "rubbish_after", "gateway",
         "repeated", *REFUSALS)  # fmt: skip
_RUBBISH = (b'{"message":"maintenance"}', b'{"PKey":"@ab', b"", b"<html>Please wait</html>", b"[]", b"null")


@dataclass(frozen=True)
class Storm:
    """Trouble in the network. Times in seconds of the simulation.

    Attributes:
        begin, end: When.
        systems: Whose requests it concerns.
        kinds: What happens to them (KINDS).
        share: Of the requests to which it happens.
        seed: Decides it for each request.
    """

    begin: float
    end: float
    systems: Sequence[str]
    kinds: Sequence[str]
    share: float
    seed: int


class Network:
    """Carries requests of the program to the services.

    repeats_posts: True if a POST may arrive twice. Without unique keys nothing could prevent a second record then.
    """

    def __init__(self, services: Services, chance: random.Random, *, repeats_posts: bool) -> None:
        self._services, self._random, self.repeats_posts = services, chance, repeats_posts
        self._storms: list[tuple[Storm, random.Random]] = []
        self._handling: set[asyncio.Task[Any]] = set()
        self.troubles: Counter[str] = Counter()

    def expect(self, storm: Storm) -> None:
        self._storms.append((storm, random.Random(storm.seed)))

    def calm(self) -> None:
        """End all storms."""
        self._storms.clear()

    def _trouble(self, system: str, now: float) -> str | None:
        for storm, chance in self._storms:
            if storm.begin <= now < storm.end and system in storm.systems and chance.random() < storm.share:
                kind = chance.choice(storm.kinds)
                self.troubles[kind] += 1
                return kind
        return None

    async def exchange(
        self, method: str, address: str, headers: Mapping[str, str], body: bytes | None, patience: float
    ) -> Response:
        """Send one request; raises what `AiohttpClient.exchange` raises. patience: seconds until its timeout."""
        process, services = PROCESS.get(), self._services
        number = process.number if process else 0
        system = HOSTS[address.split("/")[2]]
        trouble = self._trouble(system, services.clock.elapsed)
        await self._pass()
        if trouble == "not_sent":
            raise NotSent(f"{method} {system} cannot be reached (simulated).")
        sent = services.moment()
        if trouble in ("cut_before", "rubbish", "gateway", *REFUSALS):
            if trouble not in REFUSALS:
                services.note_unheard(sent, method, address)
            await self._pass()
            if trouble == "cut_before":
                raise OutcomeUnknown(f"{method} {system} gave no answer (simulated).")
            return self._in_place(system, trouble)
        longest = {"slow": SLOW_SECONDS, "late": LATE_SECONDS}.get(trouble or "", 0.0)
        before = self._random.uniform(0, longest)
        repeated = trouble == "repeated" and (method != "POST" or self.repeats_posts)

        async def handle() -> Answered:
            await asyncio.sleep(before)
            await self._pass()
            if repeated:
                await services.answer(sent, number, method, address, headers, body)
                await self._pass()
            return await services.answer(sent, number, method, address, headers, body)

        # The service goes on with a request when its caller has crashed or given up.
        handling = asyncio.get_running_loop().create_task(handle(), context=neutral())
        self._handling.add(handling)
        handling.add_done_callback(self._handling.discard, context=neutral())
        if trouble == "late":
            await asyncio.sleep(self._random.uniform(0, before))
            raise OutcomeUnknown(f"{method} {system} gave no answer (simulated).")
        answered = await asyncio.shield(handling)
        await asyncio.sleep(patience if trouble == "silent" else 0)
        await self._pass()
        if answered.response is None or trouble in ("cut_after", "silent"):
            raise OutcomeUnknown(f"{method} {system} gave no answer (simulated).")
        if trouble == "rubbish_after":
            return self._in_place(system, trouble)
        if answered.call and answered.call.truthful:
            answered.call.delivered = services.moment()
        return answered.response

    async def _pass(self) -> None:
        """Wait as long as a message takes on its way."""
        await asyncio.sleep(self._random.uniform(0.001, CALM_SECONDS))

    def _in_place(self, system: str, trouble: str) -> Response:
        """Return the answer of something between the program and the service."""
        choose = self._random.choice
        if trouble.startswith("rubbish"):
            return Response(200, CIMultiDict({"content-type": "application/json"}), choose(_RUBBISH))
        if trouble == "gateway":
            return Response(choose((502, 504)), CIMultiDict(), b"Bad Gateway")
        waits = [{}, {"retry_after": 1}, {"retry_after": self._random.randint(2, 40)}]
        rule = Rule(id=0, system=system, kind=trouble, parameters=choose(waits))
        refuse = {"d365": dataverse.refuse, "campaign": campaign.refuse}.get(system, lambda _: None)
        answer = refuse(rule) or plain_answer(rule)
        return Response(
            answer.status, CIMultiDict((name.decode(), value.decode()) for name, value in answer.headers), answer.body
        )

    @contextmanager
    def in_place(self) -> Generator[None]:
        """Let the program's requests go this way inside the block."""
        network = self

        async def exchange(
            self: AiohttpClient, method: str, address: str, headers: Mapping[str, str], body: bytes | None
        ) -> Response:
            own: Any = vars(self)
            patience = own["_timeout"].sock_read
            return await network.exchange(method, address, {**(own["_headers"] or {}), **headers}, body, patience)

        before = AiohttpClient.exchange
        AiohttpClient.exchange = exchange
        try:
            yield
        finally:
            AiohttpClient.exchange = before
