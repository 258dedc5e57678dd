"""Faults on demand: rules that say which requests go wrong, how, and how often.

A rule is the JSON object `{"system", "kind", "times", "skip", "every", "method", "path", ...parameters}`. What a kind
does is not decided here: the middleware acts on the generic kinds and on those a system answers as a whole; the others
are taken by the system itself at the place where they bite.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

GENERIC_KINDS = frozenset(
    {"status", "throttle", "unavailable", "unauthorized", "slow", "cut_before", "cut_after"}
    | {"hollow", "bomb", "drip", "circular", "empty_pages"},
)
"""Kinds that every HTTP system has; see `middleware` and, for those in the second line, `bad_answers`."""

_RULE_FIELDS = frozenset({"system", "kind", "times", "skip", "every", "method", "path"})


class BadRule(ValueError):
    """The rule cannot work; the message says why and what would."""


class Rule(msgspec.Struct, kw_only=True):
    """One rule. `matched` counts requests that it looked at and found its own, `fired` those it spoiled."""

    id: int
    system: str
    kind: str
    times: int | None = None
    """fires that often, None: until cleared"""
    skip: int = 0
    """lets the first so many matching requests pass"""
    every: int = 1
    """after that, spoils every k-th matching request, beginning with the first"""
    method: str | None = None
    path: str | None = None
    """regular expression, searched in path and query"""
    parameters: dict[str, Any] = {}
    matched: int = 0
    fired: int = 0

    def matches(self, method: str, path: str) -> bool:
        # `re` caches compiled patterns, so a rule can stay plain data
        # an SFTP operation is written small, an HTTP method in capitals; rules hold capitals
        return (self.method is None or self.method == method.upper()) and (
            self.path is None or re.search(self.path, path) is not None
        )

    def fires(self) -> bool:
        """Counts one matching request; true if this one is to go wrong."""
        if self.times is not None and self.fired >= self.times:
            return False
        self.matched += 1
        after_skip = self.matched - self.skip - 1
        if after_skip < 0 or after_skip % self.every != 0:
            return False
        self.fired += 1
        return True


class Faults:
    """The rules in force, and the standing latency of each system (milliseconds)."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self.latency_ms: dict[str, float] = {}
        self._kinds: dict[str, set[str]] = {}
        self._next_id = 1

    def register(self, system: str, kinds: Iterable[str]) -> None:
        """Makes kinds known for a system, so that a misspelt one is refused instead of never firing."""
        self._kinds.setdefault(system, set()).update(kinds)

    def add(self, data: dict[str, Any]) -> Rule:
        """Adds the rule described by a JSON object. Raises BadRule."""
        system, kind = data.get("system"), data.get("kind")
        if not isinstance(system, str) or system not in self._kinds:
            raise BadRule(f"system {system!r} is unknown; one of: {', '.join(sorted(self._kinds))}")
        if not isinstance(kind, str) or kind not in self._kinds[system]:
            raise BadRule(f"{system} has no fault {kind!r}; one of: {', '.join(sorted(self._kinds[system]))}")
        for name, least in (("times", 1), ("skip", 0), ("every", 1)):
            value = data.get(name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise BadRule(f"{name} must be a whole number from {least}, not {value!r}")
        for name in ("method", "path"):
            if not isinstance(data.get(name), str | None):
                raise BadRule(f"{name} must be text, not {data[name]!r}")
        if data.get("path") is not None:
            try:
                re.compile(data["path"])
            except re.error as error:
                raise BadRule(f"path is not a regular expression: {error}") from None
        rule = Rule(
            id=self._next_id,
            system=system,
            kind=kind,
            times=data.get("times"),
            skip=data.get("skip") or 0,
            every=data.get("every") or 1,
            method=data["method"].upper() if data.get("method") else None,
            path=data.get("path"),
            parameters={name: value for name, value in data.items() if name not in _RULE_FIELDS},
        )
        self._next_id += 1
        self.rules.append(rule)
        return rule

    def take(self, system: str, kinds: frozenset[str], method: str, path: str) -> Rule | None:
        """The rule that spoils this request, among the kinds given; None: let it pass.

        Asking counts: call it once per request for a kind. The first rule that fires wins; rules after it
        have not seen the request.
        """
        for rule in self.rules:
            if rule.kind in kinds and rule.system == system and rule.matches(method, path) and rule.fires():
                return rule
        return None

    def clear(self, system: str | None = None) -> None:
        """Removes all rules, or those of one system. Latencies stay."""
        self.rules = [rule for rule in self.rules if system is not None and rule.system != system]
