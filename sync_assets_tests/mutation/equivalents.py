"""Mutants that no test can notice, with the reason. An entry that fits no mutant any more fails the check."""

EQUIVALENT: dict[str, str] = {}
