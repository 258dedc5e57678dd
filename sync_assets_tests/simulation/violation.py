"""A broken rule of the contract, and how a function becomes a rule."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sync_assets_tests.simulation.history import History


@dataclass(frozen=True)
class Violation:
    """A sentence of the contract that a run broke.

    Attributes:
        rule: Name of the rule.
        table: Of the record; "" if the rule is about none.
        id: Of the record.
        seen: What was observed.
        contract: The sentence.
    """

    rule: str
    table: str
    id: str
    seen: str
    contract: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.table} {self.id}: {self.seen} (contract: {self.contract})"


Found = Iterator[tuple[str, str, str]]
"""Table, id, and what was observed."""
Rule = Callable[[History], Iterator[Violation]]


def rule(sentence: str) -> Callable[[Callable[[History], Found]], Rule]:
    """Make a function the rule that holds this sentence of the contract."""

    def made(find: Callable[[History], Found]) -> Rule:
        def judge(history: History) -> Iterator[Violation]:
            for table, id_, seen in find(history):
                yield Violation(find.__name__, table, id_, seen, sentence)

        judge.__name__ = find.__name__
        return judge

    return made
