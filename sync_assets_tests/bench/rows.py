"""Pages of rows as Dataverse sends them, made beforehand, so that a server can give them out without thinking.

A few distinct pages, of which only the ids differ from page to page: a million rows then take a few megabytes. The ids
are random and the same each time, so that a second read finds nothing changed.
"""

import json
from collections.abc import Callable, Sequence
from random import Random

from sync_assets_tests.bench.columns import COLUMNS, KEY, LABEL, LABELLED, OPTIONS, select_name

_FIRST = ["Ada", "Jürgen", "Siân", "Zoë", "Aoife", "Hans-Peter", "Łukasz", "Mary Jane", "François", "Ngọc", "Олена"]
_LAST = ["Byron", "O'Neill", "Müller-Lüdenscheidt", "McDonald", "Ó Briain", "García Márquez", "佐藤", "von der Leyen"]
_CITIES = ["London", "München", "L'Haÿ-les-Roses", "St. Ives", "Kraków", "Dún Laoghaire", "São Paulo", "Wien"]
_WORDS = ["customer", "asked", "about", "delivery", "of", "the", "order", "will", "call", "again", "invoice", "late"]
_EMPTY = {"memo": 0.6, "date": 0.4, "money": 0.5, "decimal": 0.3, "double": 0.5, "integer": 0.5, "picklist": 0.2}
"""How often a column of a type is null; texts: see `_RARE`. States, booleans and the lookup of the owner never are."""
_RARE = {"middlename", "nickname", "fax", "address1_line2", "address2_line1", "address2_city", "governmentid"}
_NEVER = {"firstname", "lastname", "emailaddress1", "createdon", "statecode", "statuscode", "ownerid"}

PLACEHOLDER = b"\x01" * 36
"""Stands for an id: control characters are nowhere else in a page."""


def page_ids(number: int, size: int) -> list[bytes]:
    """The ids of page `number`, random GUIDs, always the same ones."""
    digits = Random(number).randbytes(16 * size).hex()
    return [
        f"{d[:8]}-{d[8:12]}-{d[12:16]}-{d[16:20]}-{d[20:]}".encode()
        for d in (digits[at : at + 32] for at in range(0, 32 * size, 32))
    ]


class PageTemplate:
    """One page of rows without its ids: the texts before, between and behind them."""

    def __init__(self, seed: int, size: int, *, labels: bool = False) -> None:
        chance = Random(seed)
        rows = [row_text(chance, seed, labels=labels).partition(PLACEHOLDER.decode()) for _ in range(size)]
        self._before: list[bytes] = []
        behind = '{"@odata.context":"$metadata#contacts","value":['
        for before, _, after in rows:
            self._before.append(f"{behind}{before}".encode())
            behind = f"{after},"
        self._behind = [f"{after},".encode() for _, _, after in rows]

    def page(self, ids: Sequence[bytes], link: tuple[str, str]) -> bytes:
        """The page with these ids (as many rows as there are ids, at least one); `link`: name and address."""
        parts = [b""] * (2 * len(ids))
        parts[0::2], parts[1::2] = self._before[: len(ids)], ids
        return b"".join([*parts, self._end(len(ids), link)])

    def _end(self, rows: int, link: tuple[str, str]) -> bytes:
        """Behind the last id: the rest of its row and the link."""
        return self._behind[rows - 1][:-1] + f'],"@odata.{link[0]}":{json.dumps(link[1])}}}'.encode()


def row_text(chance: Random, age: int, *, labels: bool = False) -> str:
    """Return a row as JSON, with PLACEHOLDER for its id.

    age: the row's version is higher than that of each row of a lower age. labels: with values as people read them.
    """
    made = {"@odata.etag": json.dumps(f'W/"{age * 10**8 + chance.randrange(10**8)}"'), KEY: f'"{PLACEHOLDER.decode()}"'}
    made["modifiedon"] = _time(chance)
    for name, type_ in COLUMNS.items():
        shown = select_name(name)
        empty = 0.7 if name in _RARE else 0.0 if name in _NEVER else _EMPTY.get(type_, 0.25 if type_ == "string" else 0)
        made[shown] = value = "null" if chance.random() < empty else _MAKERS[type_](name, chance)
        if labels and value != "null" and type_ in LABELLED:
            plain = value.strip('"')
            label = OPTIONS[name][int(plain)] if name in OPTIONS else f"as shown: {plain}"
            made[f"{shown}{LABEL}"] = json.dumps(label)
    return "{" + ",".join(f'"{name}":{value}' for name, value in made.items()) + "}"


def _text(name: str, chance: Random) -> str:
    first, last, city = chance.choice(_FIRST), chance.choice(_LAST), chance.choice(_CITIES)
    number = chance.randrange(10**6)
    match name:
        case "firstname" | "middlename" | "nickname":
            text = first
        case "lastname":
            text = last
        case "emailaddress1" | "emailaddress2":
            text = f"person.{number}@example{number % 40}.com"
        case "websiteurl":
            text = f"https://www.example.com/people/{number}?ref=crm"
        case "telephone1" | "mobilephone" | "fax":
            text = f"+44 20 7946 {number % 10000:04d}"
        case "address1_line1" | "address1_line2" | "address2_line1":
            text = f"{number % 300} {last} Street"
        case "address1_city" | "address2_city" | "address1_stateorprovince":
            text = city
        case "address1_country":
            text = chance.choice(["United Kingdom", "Germany", "France", "Brazil"])
        case _:
            text = f"{name[:4]} {number}"
    return json.dumps(text, ensure_ascii=False)


def _memo(name: str, chance: Random) -> str:
    return json.dumps(" ".join(chance.choices(_WORDS, k=chance.randrange(8, 60))) + '.\n"Thanks"')


def _time(chance: Random) -> str:
    day, second = chance.randrange(1, 29), chance.randrange(60)
    return f'"2026-{chance.randrange(1, 12):02d}-{day:02d}T{chance.randrange(24):02d}:{second:02d}:{second:02d}Z"'


def _guid(chance: Random) -> str:
    digits = chance.randbytes(16).hex()
    return f'"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"'


_MAKERS: dict[str, Callable[[str, Random], str]] = {
    "string": _text,
    "memo": _memo,
    **dict.fromkeys(("picklist", "state", "status"), lambda name, chance: str(chance.choice(list(OPTIONS[name])))),
    "date": lambda name, chance: f'"{chance.randrange(1940, 2010)}-{chance.randrange(1, 13):02d}-10"',
    "datetime": lambda name, chance: _time(chance),
    "money": lambda name, chance: f"{chance.randrange(10**7)}.{chance.randrange(100):02d}00",
    "decimal": lambda name, chance: f"{chance.random():.10f}",
    "double": lambda name, chance: f"{chance.uniform(-90, 90):.5f}",
    "integer": lambda name, chance: str(chance.randrange(1000)),
    "boolean": lambda name, chance: chance.choice(("true", "false")),
    "lookup": lambda name, chance: _guid(chance),
}
