"""Dynamics 365 and Campaign as far as opt-outs are concerned, played: values, times, and what must not get lost.

Dynamics 365 tells one time for the whole record, in whole seconds; Campaign one for each attribute, if at all, which
moves when the value does. Time goes on a little with everything that happens, so that nothing happens at once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Literal

import polars as pl

from sync_assets.campaign.addressing import KEY_FOUND, Addressing
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.config.opt_out import ActiveDirection
from sync_assets_tests.support.ledgers import Clock, guid

EMAIL, PUSH = "blackListEmail", "blackListPushnotification"
ATTRIBUTES = [EMAIL, PUSH]
IDS = [guid(f"contact{n}") for n in range(3)]

Times = Literal["exact", "days", "none"]
Key = tuple[str, str]
"""Contact and attribute."""


@dataclass
class Contact:
    values: dict[str, bool]
    modified: datetime
    etag: int
    content: str = "a"


@dataclass
class Profile:
    values: dict[str, bool]
    changed: dict[str, datetime | None]
    modified: datetime


@dataclass(frozen=True)
class File:
    """`rows`: contact, values and their times as the file tells them. `extracted`: when the rows were read, `written`:
    the file's own time."""

    rows: list[tuple[str, dict[str, bool], dict[str, datetime | None]]]
    extracted: datetime
    written: datetime

    def frame(self) -> pl.DataFrame:
        told = [
            {"id": id_, **values, **{f"{name}LastModified": at for name, at in changed.items()}}
            for id_, values, changed in self.rows
        ]
        return pl.DataFrame(told, schema=FRAME)


FRAME = {"id": pl.String, **dict.fromkeys(ATTRIBUTES, pl.Boolean())} | {
    f"{name}LastModified": pl.Datetime("us", "UTC") for name in ATTRIBUTES
}


@dataclass(frozen=True)
class Ways:
    """How an installation is set up. `file_times`: how the export tells times of EMAIL; nobody tells those of PUSH.
    `api_times`: whether the API tells them. `all_profiles`: the export has all, not only those changed since the last
    one. `slow_export`: the file is written some time after its rows were read."""

    direction: ActiveDirection
    file_times: Times
    api_times: bool
    all_profiles: bool
    slow_export: bool

    @classmethod
    def any(cls, random: Random) -> Ways:
        file_times: Times = random.choice(["exact", "exact", "days", "none"])
        return cls(
            direction=random.choice(["bidirectional", "bidirectional", "bidirectional", "campaign_to_d365"]),
            file_times=file_times,
            api_times=file_times != "none" or random.random() < 0.5,
            all_profiles=random.random() < 0.5,
            slow_export=random.random() < 0.5,
        )


@dataclass
class World:
    clock: Clock
    random: Random
    ways: Ways
    contacts: dict[str, Contact] = field(default_factory=dict[str, Contact])
    profiles: dict[str, Profile] = field(default_factory=dict[str, Profile])
    etags: int = 0
    exported: datetime | None = None
    exporting: datetime | None = None
    """Since when an export is under way."""
    taken_back: dict[Key, datetime] = field(default_factory=dict[Key, datetime])
    """When a person took an opt-out back in Campaign."""
    standing: set[Key] = field(default_factory=set[Key])
    """Opt-outs that nobody took back: they may never get lost. See `user_in_d365` and `user_in_campaign`."""
    held_here: set[Key] = field(default_factory=set[Key])
    """Those of them that Dynamics 365 holds: there we may never write false."""
    last_word: dict[Key, str] = field(default_factory=dict[Key, str])
    """The side on which a person changed it last."""
    written: Counter[str] = field(default_factory=Counter[str])
    """Requests of ours by side."""

    def __post_init__(self) -> None:
        for id_ in IDS:
            self.contacts[id_] = Contact(dict.fromkeys(ATTRIBUTES, False), self.clock.now, 0)
            self._touch(id_)
            if self.random.random() < 0.4:
                self.make_profile(id_, {})
            for _ in range(self.random.randrange(3)):
                self.somebody_changes_it(id_)

    def later(self) -> datetime:
        """A moment that has not been yet."""
        self.clock.advance(self.random.randint(1, 900) / 1000)
        return self.clock.now

    # What people do

    def somebody_changes_it(self, id_: str) -> None:
        name, value = self.random.choice(ATTRIBUTES), self.random.random() < 0.5
        if self.random.random() < 0.5:
            self.user_in_d365(id_, name, value)
        elif id_ in self.profiles:
            self.user_in_campaign(id_, name, value)

    def user_in_d365(self, id_: str, name: str, value: bool) -> None:
        """Taking an opt-out back here counts only as long as Campaign does not hold it."""
        before, self.contacts[id_].values[name] = self.contacts[id_].values[name], value
        self._touch(id_)
        if value != before:
            self.last_word[id_, name] = "d365"
        self.held_here.discard((id_, name))
        if value and not self._at_once(id_, name):
            self.standing.add((id_, name))
            self.held_here.add((id_, name))
        elif id_ not in self.profiles or not self.profiles[id_].values[name]:
            self.standing.discard((id_, name))

    def _at_once(self, id_: str, name: str) -> bool:
        """Without times nobody can tell what came first of that which happened while a file was being written."""
        timeless = name != EMAIL or not self.ways.api_times
        taken_back = self.taken_back.get((id_, name))
        return bool(timeless and self.exporting and taken_back and taken_back > self.exporting)

    def user_in_campaign(self, id_: str, name: str, value: bool) -> None:
        """Taking an opt-out back here answers all that were before."""
        if self.profiles[id_].values[name] == value:
            return
        self._set(id_, name, value)
        self.last_word[id_, name] = "campaign"
        if value:
            self.standing.add((id_, name))
        else:
            self.standing.discard((id_, name))
            self.held_here.discard((id_, name))
            self.taken_back[id_, name] = self.clock.now

    def another_change(self, id_: str) -> None:
        self.contacts[id_].content = self.random.choice("abc")
        self._touch(id_)

    # What we do

    def write_d365(self, id_: str, values: dict[str, bool], etag: int | None) -> bool:
        """False: the row has another etag by now."""
        if etag is not None and etag != self.contacts[id_].etag:
            return False
        for name, value in values.items():
            if value and (id_, name) in self.standing:
                self.held_here.add((id_, name))
            undone = not value and self.ways.direction == "bidirectional" and (id_, name) in self.held_here
            assert not undone, f"the opt-out from {name} of {id_} is undone"
        self.contacts[id_].values.update(values)
        self._touch(id_)
        self.written["d365"] += 1
        return True

    def write_campaign(self, id_: str, values: dict[str, bool]) -> bool:
        """False: there is no such profile."""
        assert self.ways.direction == "bidirectional"
        assert all(values.values()), "Campaign is told of opt-outs only"
        if id_ not in self.profiles:
            return False
        for name, value in values.items():
            if self.profiles[id_].values[name] != value:
                self._set(id_, name, value)
        self.written["campaign"] += 1
        return True

    def make_profile(self, id_: str, values: dict[str, bool]) -> None:
        now = self.later()
        held = dict.fromkeys(ATTRIBUTES, False) | values
        changed = {name: now if name == EMAIL and held[name] else None for name in ATTRIBUTES}
        self.profiles[id_] = Profile(held, changed, now)

    def _touch(self, id_: str) -> None:
        self.etags += 1
        self.contacts[id_].modified = self.later().replace(microsecond=0)
        self.contacts[id_].etag = self.etags

    def _set(self, id_: str, name: str, value: bool) -> None:
        profile, now = self.profiles[id_], self.later()
        profile.values[name], profile.modified = value, now
        if name == EMAIL:
            profile.changed[name] = now

    # What Campaign tells

    def told_by_api(self, id_: str) -> dict[str, tuple[bool, datetime | None]] | None:
        """None: there is no such profile."""
        profile = self.profiles.get(id_)
        if profile is None:
            return None
        return {
            name: (profile.values[name], profile.changed[name] if self.ways.api_times else None) for name in ATTRIBUTES
        }

    def poll(self) -> File:
        now = self.later()
        told = [(id_, self.told_by_api(id_) or {}) for id_ in self.profiles]
        rows = [
            (id_, {name: value for name, (value, _) in one.items()}, {name: at for name, (_, at) in one.items()})
            for id_, one in told
        ]
        return File(rows, now, now)

    def extract(self) -> File:
        """The rows of an export that begins now; its time of writing is still to come."""
        now, since = self.later(), None if self.ways.all_profiles else self.exported
        self.exported = self.exporting = now
        rows = [
            (id_, dict(profile.values), {name: self._in_file(profile.changed[name]) for name in ATTRIBUTES})
            for id_, profile in self.profiles.items()
            if since is None or profile.modified >= since
        ]
        return File(rows, now, now)

    def _in_file(self, changed: datetime | None) -> datetime | None:
        if changed is None or self.ways.file_times == "none":
            return None
        midnight = changed.replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight if self.ways.file_times == "days" else changed


class Killed(Exception):
    """The process dies while a request is under way."""


@dataclass
class Records:
    """Campaign's profiles as a delivery sees them. With `trouble` a request is refused, or we die before or after it
    arrives."""

    world: World
    id: str
    trouble: float
    resource: str = "profile"
    key: str = "externalId"
    addressing: Addressing = field(default_factory=lambda: Addressing("url", unique=True, found={KEY_FOUND: "yes"}))

    async def insert(self, body: bytes, guard: object = None) -> ResponseOutcome:
        return self._request(lambda: self._post(json.loads(body)))

    async def update(self, key: str, body: bytes, guard: object = None) -> ResponseOutcome:
        assert not set(ATTRIBUTES) & json.loads(body).keys(), "what a profile holds is for the decision alone"
        return self._request(lambda: ResponseOutcome("done" if self.id in self.world.profiles else "missing"))

    def _post(self, sent: dict[str, object]) -> ResponseOutcome:
        if self.id in self.world.profiles:
            return ResponseOutcome("exists_already", "the key is taken")
        opt_outs = {name: bool(sent[name]) for name in ATTRIBUTES if name in sent}
        assert all(opt_outs.values()), "Campaign is told of opt-outs only"
        assert self.world.ways.direction == "bidirectional" or not opt_outs
        self.world.make_profile(self.id, opt_outs)
        return ResponseOutcome("done")

    def _request(self, arrive: Callable[[], ResponseOutcome]) -> ResponseOutcome:
        random = self.world.random
        if random.random() < self.trouble:
            kind = random.choice(["refused", "killed before", "killed after"])
            if kind == "refused":
                return ResponseOutcome("refused", "no")
            if kind == "killed after":
                arrive()
            raise Killed
        return arrive()
