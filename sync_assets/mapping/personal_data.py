"""Guess by their names which columns and attributes hold personal data. Pure.

Only used to warn (docs/dev/references/campaign.md 14): email, telephone, names of people, addresses, dates of birth.
"""

import re

_PARTS = (
    "email", "telephone", "phone", "firstname", "middlename", "lastname", "surname", "fullname", "maidenname",
    "nickname", "address", "birthdate", "postalcode", "zipcode",
)  # fmt: skip
"""Searched anywhere in a name without its separators."""
_WORDS = frozenset(
    ("mail", "mobile", "fax", "tel", "street", "city", "zip", "birthday", "birth", "gender", "passport", "ssn", "iban")
)
"""Searched as a whole word: `city` must not be found in `capacity`."""
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def looks_personal(name: str) -> bool:
    """Return True if a column or attribute with this name probably holds personal data."""
    return _contains(name, _PARTS, _WORDS)


def is_telephone(name: str) -> bool:
    """Return True if a column or attribute with this name probably holds a telephone number."""
    return _contains(name, ("telephone", "phone"), frozenset(("mobile", "fax", "tel")))


def _contains(name: str, parts: tuple[str, ...], whole: frozenset[str]) -> bool:
    words = [word.lower() for word in _WORD.findall(name)]
    return any(part in "".join(words) for part in parts) or not whole.isdisjoint(words)
