"""The network of a simulation, in place of `AiohttpTransport.exchange`: what happens to a request and its answer.

Each takes some milliseconds, so that requests overtake each other. By a `FaultPlan` they are also delayed for long, cut
before or after the service handled them, handled when the caller has given up, answered with an invalid body,
throttled, or refused for their token.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from multidict import CIMultiDict

from sync_assets.http.aiohttp_transport import AiohttpTransport
from sync_assets.http.transport import NotSent, OutcomeUnknown, Response
from sync_assets.sandbox import campaign, dataverse
from sync_assets.sandbox.faults import Rule
from sync_assets.sandbox.middleware import plain_answer
from sync_assets_tests.simulation.clock import PROCESS, no_process
from sync_assets_tests.simulation.services import HOSTS, Answered, Services

USUAL_SECONDS = 0.05
SLOW_SECONDS = 20.0
LATE_SECONDS, GIVEN_UP_SECONDS = 600.0, 3.0
"""How long after it was sent a late request may be handled, within the program's horizon, and when its caller has given
up at the latest."""
REFUSALS = ("throttle", "unavailable", "unauthorized")
KINDS = ("not_sent", "cut_before", "cut_after", "late", "slow", "no_answer", "invalid_body",
         "invalid_body_after", "gateway", "repeated", *REFUSALS)  # fmt: skip
ANSWERS_LOST = ("cut_after", "late", "no_answer", "invalid_body_after")
_INVALID_BODIES = (b'{"message":"maintenance"}', b'{"PKey":"@ab', b"", b"<html>Please wait</html>", b"[]", b"null")


@dataclass(frozen=True)
class FaultPlan:
    """Faults of the network. Times in seconds of the simulation.

    Attributes:
        begin, end: When.
        systems: Whose requests it concerns; `sftp`: connections to the SFTP server and reads of a file.
        kinds: What happens to them (KINDS, those of the SFTP server in sftp_server.py).
        share: Of the requests to which it happens.
        seed: Decides it for each request.
        methods: Of the requests that it concerns; all if empty.
    """

    begin: float
    end: float
    systems: Sequence[str]
    kinds: Sequence[str]
    share: float
    seed: int
    methods: Sequence[str] = ()


class Network:
    """Carries requests of the program to the services.

    repeats_posts: True if a POST may arrive twice. Without unique keys nothing could prevent a second record then.
    """

    def __init__(self, services: Services, chance: random.Random, *, repeats_posts: bool) -> None:
        self._services, self._random, self.repeats_posts = services, chance, repeats_posts
        self._plans: list[tuple[FaultPlan, random.Random]] = []
        self._handling: set[asyncio.Task[Any]] = set()
        self.faults: Counter[str] = Counter()

    def add(self, plan: FaultPlan) -> None:
        self._plans.append((plan, random.Random(plan.seed)))

    @property
    def carries(self) -> bool:
        """Return True while a request is under way, even if its caller has given it up."""
        return bool(self._handling)

    def end_faults(self) -> None:
        """End all fault plans."""
        self._plans.clear()

    def fault(self, system: str, method: str = "") -> str | None:
        """Return what happens to the next request to a system."""
        now = self._services.clock.elapsed
        for plan, chance in self._plans:
            concerned = system in plan.systems and (not plan.methods or method in plan.methods)
            if plan.begin <= now < plan.end and concerned and chance.random() < plan.share:
                kind = chance.choice(plan.kinds)
                self.faults[kind] += 1
                return kind
        return None

    async def exchange(
        self, method: str, address: str, headers: Mapping[str, str], body: bytes | None, timeout: float
    ) -> Response:
        """Send one request; raises what `AiohttpTransport.exchange` raises. timeout: seconds until its timeout."""
        process, services = PROCESS.get(), self._services
        number = process.number if process else 0
        system = HOSTS[address.split("/")[2]]
        fault = self.fault(system, method)
        await self._pass()
        if fault == "not_sent":
            raise NotSent(f"{method} {system} cannot be reached (simulated).")
        sent = services.moment()
        if fault in ("cut_before", "invalid_body", "gateway", *REFUSALS):
            if fault not in REFUSALS:
                services.note_unanswered(sent, method, address)
            await self._pass()
            if fault == "cut_before":
                raise OutcomeUnknown(f"{method} {system} gave no answer (simulated).")
            return self._in_place(system, fault)
        longest = {"slow": SLOW_SECONDS, "late": LATE_SECONDS}.get(fault or "", 0.0)
        before = self._random.uniform(0, longest)
        repeated = fault == "repeated" and (method != "POST" or self.repeats_posts)
        lost = fault in ANSWERS_LOST

        async def handle() -> Answered:
            await asyncio.sleep(before)
            await self._pass()
            first = await services.answer(sent, number, method, address, headers, body) if repeated else None
            if repeated:
                await self._pass()
            answered = await services.answer(sent, number, method, address, headers, body, answer_lost=lost)
            # A gateway that turns the second copy away has the engine's answer to the first one.
            return first if first and first.call and not answered.call else answered

        # The service goes on with a request when its caller has crashed or given up.
        handling = asyncio.get_running_loop().create_task(handle(), context=no_process())
        self._handling.add(handling)
        handling.add_done_callback(self._handling.discard, context=no_process())
        if fault == "late":
            await asyncio.sleep(self._random.uniform(0, min(before, GIVEN_UP_SECONDS)))
            raise OutcomeUnknown(f"{method} {system} gave no answer (simulated).")
        answered = await asyncio.shield(handling)
        await asyncio.sleep(timeout if fault == "no_answer" else 0)
        await self._pass()
        if answered.response is None or fault in ("cut_after", "no_answer"):
            raise OutcomeUnknown(f"{method} {system} gave no answer (simulated).")
        if fault == "invalid_body_after":
            return self._in_place(system, fault)
        if answered.call and answered.call.own_answer:
            answered.call.delivered = services.moment()
        return answered.response

    async def _pass(self) -> None:
        """Wait as long as a message takes on its way."""
        await asyncio.sleep(self._random.uniform(0.001, USUAL_SECONDS))

    def _in_place(self, system: str, fault: str) -> Response:
        """Return the answer of something between the program and the service."""
        choose = self._random.choice
        if fault.startswith("invalid_body"):
            return Response(200, CIMultiDict({"content-type": "application/json"}), choose(_INVALID_BODIES))
        if fault == "gateway":
            return Response(choose((502, 504)), CIMultiDict(), b"Bad Gateway")
        waits = [{}, {"retry_after": 1}, {"retry_after": self._random.randint(2, 40)}]
        rule = Rule(id=0, system=system, kind=fault, parameters=choose(waits))
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
            self: AiohttpTransport, method: str, address: str, headers: Mapping[str, str], body: bytes | None
        ) -> Response:
            own: Any = vars(self)
            timeout = own["_timeout"].sock_read
            sent = CIMultiDict[str]({**(own["_headers"] or {}), **headers})
            return await network.exchange(method, address, sent, body, timeout)

        before = AiohttpTransport.exchange
        AiohttpTransport.exchange = exchange
        try:
            yield
        finally:
            AiohttpTransport.exchange = before
