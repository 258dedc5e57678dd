"""The result of one premise: what was found, and what the program does about it. Holds no values and no secrets."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

System = Literal["Campaign", "Dynamics 365"]
Outcome = Literal["workable", "not workable", "not tried"]


@dataclass(frozen=True, slots=True)
class PremiseResult:
    """One row of the report.

    Attributes:
        system: where it was tried.
        about: the resource or table; empty for a whole system.
        premise: a constant name, the same in each report.
        found: what the system did; for a premise that was not tried, why.
        program: what the program will do; for one that is not workable, what to change.
    """

    system: System
    about: str
    premise: str
    found: str
    program: str
    outcome: Outcome = "workable"

    def document(self) -> dict[str, Any]:
        return asdict(self)
