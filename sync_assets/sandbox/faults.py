"""Rules for injected faults: which requests fail, how, and how often.

A rule is the JSON object `{"system", "kind", "times", "skip", "every", "method", "path", ...parameters}`. The effect of
a kind is defined elsewhere: the middleware implements generic kinds, and kinds that a system answers completely; other
kinds are implemented by the system itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

GENERIC_KINDS = frozenset(
    {"status", "throttle", "unavailable", "unauthorized", "slow", "cut_before", "cut_after", "late"}
    | {"hollow", "bomb", "drip", "circular", "empty_pages"},
)
"""Kinds of every HTTP system. Those of the first line are in `middleware`, those of the second in `bad_answers`."""

_RULE_FIELDS = frozenset({"system", "kind", "times", "skip", "every", "method", "path"})
_PARAMETERS = frozenset(
    {"status", "body", "content_type", "headers", "retry_after", "delay_ms"}
    | {"carry_out", "executed", "seconds", "megabytes", "plain_megabytes", "bytes"},
)
"""Parameters of all kinds together."""


class BadRule(ValueError):
    """Raised for an invalid rule. The message is the reason and the valid values."""


class Rule(msgspec.Struct, kw_only=True):
    """One rule. `matched`: number of requests that it matched. `fired`: number of these that failed by it."""

    id: int
    system: str
    kind: str
    times: int | None = None
    """Number of requests that fail; None: until the rule is removed."""
    skip: int = 0
    """Number of matching requests that pass first."""
    every: int = 1
    """After these, each k-th matching request fails, beginning with the first."""
    method: str | None = None
    path: str | None = None
    """Regular expression, searched in path and query."""
    parameters: dict[str, Any] = {}
    matched: int = 0
    fired: int = 0

    def matches(self, method: str, path: str) -> bool:
        # `re` caches compiled patterns, so a rule can be plain data. Rules hold the method in upper case; HTTP methods
        # are in upper case, SFTP operations in lower case.
        return (self.method is None or self.method == method.upper()) and (
            self.path is None or re.search(self.path, path) is not None
        )

    def fires(self) -> bool:
        """Count one matching request. Return True if it must fail."""
        if self.times is not None and self.fired >= self.times:
            return False
        self.matched += 1
        after_skip = self.matched - self.skip - 1
        if after_skip < 0 or after_skip % self.every != 0:
            return False
        self.fired += 1
        return True


class Faults:
    """The active rules, and the constant latency of each system in milliseconds."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self.latency_ms: dict[str, float] = {}
        self._kinds: dict[str, set[str]] = {}
        self._next_id = 1

    @property
    def systems(self) -> list[str]:
        return sorted(self._kinds)

    def register(self, system: str, kinds: Iterable[str]) -> None:
        """Register the kinds of a system, so that a rule with a misspelt kind is an error."""
        self._kinds.setdefault(system, set()).update(kinds)

    def add(self, data: dict[str, Any]) -> Rule:
        """Add the rule of a JSON object. Raises BadRule."""
        system, kind = data.get("system"), data.get("kind")
        if not isinstance(system, str) or system not in self._kinds:
            raise BadRule(f"system {system!r} is unknown; one of: {', '.join(sorted(self._kinds))}")
        if not isinstance(kind, str) or kind not in self._kinds[system]:
            raise BadRule(f"{system} has no fault {kind!r}; one of: {', '.join(sorted(self._kinds[system]))}")
        if unknown := data.keys() - _RULE_FIELDS - _PARAMETERS:
            names = ", ".join(sorted(_RULE_FIELDS | _PARAMETERS))
            raise BadRule(f"a fault has no {', '.join(sorted(unknown))}; it has: {names}")
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
        """Return the rule of one of these kinds by which this request fails; None if it passes.

        The call counts the request, so call it once per request and kind. The first rule that fires is returned; later
        rules do not count the request.
        """
        for rule in self.rules:
            if rule.kind in kinds and rule.system == system and rule.matches(method, path) and rule.fires():
                return rule
        return None

    def clear(self, system: str | None = None) -> None:
        """Remove all rules, or those of one system. Latencies are kept."""
        self.rules = [rule for rule in self.rules if system is not None and rule.system != system]
