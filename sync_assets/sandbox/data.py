"""Generate sample rows for the sandbox's Dynamics 365: contacts, their orders, and order lines.

Rows are dictionaries with Dataverse logical names and the values of the Web API (docs/dev/references/dataverse.md 2.4):
GUIDs in lower case, `YYYY-MM-DD` dates, `YYYY-MM-DDThh:mm:ssZ` times in whole seconds, choices as numbers, multiple
choices as "1,9", empty values as None. Lookups have their logical name (`new_contactid`) and hold the GUID of the other
row.

The values are difficult but valid: many scripts, characters beyond the basic plane, quotes, names whose case Campaign
changes, shared and missing mail addresses.

Invariant: the same seed generates the same rows, and a shorter sequence is the beginning of a longer one. Only the
times depend on `until`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from random import Random
from typing import Any

Row = dict[str, Any]

SPREAD_DAYS = 30
"""`modifiedon` lies within this number of days before `until`."""

GENDER = {1: "Male", 2: "Female"}
FAMILY_STATUS = {1: "Single", 2: "Married", 3: "Divorced", 4: "Widowed"}
PREFERRED_CONTACT = {1: "Any", 2: "Email", 3: "Phone", 4: "Fax", 5: "Mail"}
TIER = {100000000: "None", 100000001: "Bronze", 100000002: "Silver", 100000003: "Gold"}
INTERESTS = {1: "Cycling", 2: "Cooking", 3: "Travel", 4: "Music", 5: "Gardening", 9: "Other"}
ORDER_STATUS = {100000000: "Draft", 100000001: "Placed", 100000002: "Shipped", 100000003: "Cancelled"}
ORDER_TAGS = {1: "Gift", 2: "Fragile", 3: "Backorder", 9: "Sample"}

# Country, telephone prefix, cities with a sample postal code, first and last names as (as written, in Latin letters).
_PLACES: list[tuple[str, str, list[tuple[str, str]], list[tuple[str, str]], list[tuple[str, str]]]] = [
    (
        "United Kingdom",
        "+44 20",
        [("London", "SW1A 1AA"), ("Leeds", "LS1 4AP"), ("St. Ives", "TR26 1LP")],
        [("Ada", "ada"), ("Oliver", "oliver"), ("Siân", "sian"), ('Robert "Bob"', "bob"), ("mary-jane", "mary")],
        [("Byron", "byron"), ("McDonald", "mcdonald"), ("Smith-Jones", "smith"), ("Fitzgerald (GP)", "fitz")],
    ),
    (
        "Ireland",
        "+353 1",
        [("Dublin", "D02 AF30"), ("Dún Laoghaire", "A96 K5P0")],
        [("Aoife", "aoife"), ("Seán", "sean"), ("Niamh", "niamh")],
        [("O'Neill", "oneill"), ("Ó Briain", "obriain"), ("MacCarthy", "maccarthy")],
    ),
    (
        "Germany",
        "+49 30",
        [("München", "80331"), ("Köln", "50667"), ("Görlitz", "02826")],
        [("Jürgen", "juergen"), ("Käthe", "kaethe"), ("Hans-Peter", "hanspeter"), ("Zoë", "zoe")],
        [("Groß", "gross"), ("von der Leyen", "vonderleyen"), ("Müller-Lüdenscheidt", "mueller")],
    ),
    (
        "France",
        "+33 1",
        [("Paris", "75001"), ("L'Haÿ-les-Roses", "94240"), ("Besançon", "25000")],
        [("Noël", "noel"), ("Hélène", "helene"), ("Jean-François", "jf"), ("Éléonore", "eleonore")],
        [("Lefèvre", "lefevre"), ("de La Fontaine", "delafontaine"), ("D’Alembert", "dalembert")],
    ),
    (
        "Poland",
        "+48 22",
        [("Łódź", "90-001"), ("Kraków", "30-001")],
        [("Łukasz", "lukasz"), ("Małgorzata", "malgorzata"), ("Zbigniew", "zbigniew")],
        [("Brzęczyszczykiewicz", "brzeczyszczykiewicz"), ("Wiśniewska", "wisniewska")],
    ),
    (
        "Türkiye",
        "+90 212",
        [("İstanbul", "34000"), ("Diyarbakır", "21000")],
        [("İpek", "ipek"), ("Işıl", "isil"), ("Çağlar", "caglar")],
        [("Yılmaz", "yilmaz"), ("Öztürk", "ozturk"), ("Şahin", "sahin")],
    ),
    (
        "Greece",
        "+30 21",
        [("Αθήνα", "104 31"), ("Θεσσαλονίκη", "546 21")],
        [("Γιώργος", "giorgos"), ("Ελένη", "eleni"), ("Οδυσσέας", "odysseas")],
        [("Παπαδόπουλος", "papadopoulos"), ("Νικολάου", "nikolaou")],
    ),
    (
        "Bulgaria",
        "+359 2",
        [("София", "1000"), ("Пловдив", "4000")],
        [("Георги", "georgi"), ("Мария", "maria"), ("Йордан", "yordan")],
        [("Иванов", "ivanov"), ("Димитрова", "dimitrova")],
    ),
    (
        "Japan",
        "+81 3",
        [("東京都千代田区", "100-0001"), ("大阪市", "530-0001")],
        [("太郎", "taro"), ("さくら", "sakura"), ("健一", "kenichi")],
        [("𠮷田", "yoshida"), ("佐藤", "sato"), ("髙橋", "takahashi")],
    ),
    (
        "China",
        "+86 10",
        [("北京市", "100000"), ("成都市", "610000")],
        [("伟", "wei"), ("秀英", "xiuying"), ("子涵", "zihan")],
        [("王", "wang"), ("欧阳", "ouyang"), ("李", "li")],
    ),
    (
        "South Korea",
        "+82 2",
        [("서울특별시", "04524"), ("부산광역시", "48058")],
        [("민준", "minjun"), ("서연", "seoyeon")],
        [("김", "kim"), ("이", "lee"), ("남궁", "namgung")],
    ),
    (
        "India",
        "+91 11",
        [("नई दिल्ली", "110001"), ("Mumbai", "400001")],
        [("आर्यन", "aryan"), ("Priya", "priya"), ("लक्ष्मी", "lakshmi")],
        [("शर्मा", "sharma"), ("Ramanujan", "ramanujan"), ("N'Souza", "nsouza")],
    ),
    (
        "Jordan",
        "+962 6",
        [("عمّان", "11110"), ("إربد", "21110")],
        [("محمد", "mohammad"), ("فاطمة", "fatima"), ("عبد الرحمن", "abdulrahman")],
        [("الحسيني", "alhusseini"), ("خوري", "khoury")],
    ),
    (
        "Israel",
        "+972 2",
        [("ירושלים", "9100000"), ("תל אביב-יפו", "6100000")],
        [("דוד", "david"), ("שרה", "sara")],
        [("כהן", "cohen"), ("בן-גוריון", "bengurion")],
    ),
    (
        "Thailand",
        "+66 2",
        [("กรุงเทพมหานคร", "10200")],
        [("สมชาย", "somchai"), ("มาลี", "malee")],
        [("วงศ์สวัสดิ์", "wongsawat"), ("ใจดี", "jaidee")],
    ),
    (
        "Mexico",
        "+52 55",
        [("Ciudad de México", "06000"), ("Mérida", "97000")],
        [("María José", "mariajose"), ("Ángel", "angel"), ("Jose\u0301", "jose")],  # the last one decomposed
        [("Núñez y Peña", "nunez"), ("de la Cruz", "delacruz"), ("GARCÍA", "garcia")],
    ),
]
_STREETS = ["High Street", "Bahnhofstraße", "Rue de l'Église", "Main St., Suite #5", "Calle 5 de Mayo", "大通り"]
_JOBS = ["Engineer", "Head of R&D", "Chief Happiness Officer", "Nurse", "Écrivaine", "営業部長", "Teacher; tutor"]
_SALUTATIONS = ["Mr.", "Ms.", "Dr.", "Prof."]
_DOMAINS = ["example.com", "example.org", "mail.example.net", "xn--bcher-kva.example"]
_PRODUCTS = ["Kettle", "Straßenrad", 'Lamp 5"', "Café crème, 6×", "茶碗", "Socks <wool>", "Notebook & pen"]
_EPOCH = date(1930, 1, 1)


def start_of_today() -> datetime:
    """Return the last midnight (UTC), before which all sample rows were modified."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def contacts(n: int, seed: int = 1, *, start: int = 0, until: datetime | None = None) -> Iterator[Row]:
    """Yield `n` contacts of about 40 columns each, beginning with the one at index `start`."""
    return islice(_all_contacts(seed, until or start_of_today()), start, start + n)


def _all_contacts(seed: int, until: datetime) -> Iterator[Row]:
    rng = Random(seed)
    chance, pick = rng.random, rng.choice
    number = 0
    shared_email = "family@example.com"
    while True:
        number += 1
        country, prefix, cities, first_names, last_names = pick(_PLACES)
        first, first_latin = pick(first_names)
        last, last_latin = pick(last_names)
        city, postal_code = pick(cities)
        email: str | None = f"{first_latin}.{last_latin}{number}@{pick(_DOMAINS)}"
        draw = chance()
        if draw < 0.04:
            email = None
        elif draw < 0.06:
            email = shared_email  # addresses are not unique in Dynamics
        elif draw < 0.08:
            email = email.replace("@", "+news@").capitalize()
        shared_email = email or shared_email
        inactive = chance() < 0.05
        created, modified = _times(rng, until)
        yield {
            "contactid": _guid(rng),
            "salutation": pick(_SALUTATIONS) if chance() < 0.3 else None,
            "firstname": first if chance() > 0.02 else None,
            "middlename": pick("ABCDEFGH") + "." if chance() < 0.1 else None,
            "lastname": last if chance() > 0.01 else None,
            "jobtitle": pick(_JOBS) if chance() < 0.6 else None,
            "emailaddress1": email,
            "emailaddress2": f"{last_latin}{number}@example.edu" if chance() < 0.1 else None,
            "telephone1": f"{prefix} {rng.randrange(1000000, 9999999)}" if chance() < 0.6 else None,
            "mobilephone": f"{prefix} {rng.randrange(100000000, 999999999)}" if chance() < 0.5 else None,
            "fax": f"{prefix} {rng.randrange(1000000, 9999999)}" if chance() < 0.05 else None,
            "birthdate": (_EPOCH + timedelta(rng.randrange(27000))).isoformat() if chance() < 0.7 else None,
            "gendercode": pick((1, 2)) if chance() < 0.8 else None,
            "familystatuscode": pick((1, 2, 3, 4)) if chance() < 0.4 else None,
            "preferredcontactmethodcode": pick((1, 1, 2, 3, 5)),
            "address1_line1": f"{rng.randrange(1, 400)} {pick(_STREETS)}" if chance() < 0.8 else None,
            "address1_city": city if chance() < 0.9 else None,
            "address1_postalcode": postal_code if chance() < 0.85 else None,
            "address1_country": country if chance() < 0.9 else None,
            "description": f"Met at the fair 🎪\nlikes {pick(_PRODUCTS)}" if chance() < 0.2 else None,
            "donotemail": chance() < 0.08,
            "donotphone": chance() < 0.1,
            "donotfax": chance() < 0.1,
            "donotpostalmail": chance() < 0.06,
            "donotbulkemail": chance() < 0.08,
            "donotbulkpostalmail": chance() < 0.06,
            "donotsendmm": chance() < 0.1,
            "followemail": chance() > 0.1,
            "creditlimit": float(rng.randrange(0, 5_000_000)) / 100 if chance() < 0.5 else None,
            "numberofchildren": rng.randrange(6) if chance() < 0.3 else None,
            "new_score": rng.randrange(-100, 1000) if chance() < 0.7 else None,
            "new_balance": float(rng.randrange(-100_000, 900_000)) / 100 if chance() < 0.5 else None,
            "new_lastvisit": _time(modified - rng.randrange(86400 * 90)) if chance() < 0.5 else None,
            "new_vip": chance() < 0.03,
            "new_tier": pick((100000000, 100000001, 100000002, 100000003)) if chance() < 0.6 else None,
            "new_interests": _several(rng, INTERESTS) if chance() < 0.4 else None,
            "statecode": 1 if inactive else 0,
            "statuscode": 2 if inactive else 1,
            "createdon": _time(created),
            "modifiedon": _time(modified),
        }


def orders(contact_ids: Iterable[str], seed: int = 1, *, until: datetime | None = None) -> Iterator[Row]:
    """Yield zero to three orders for each contact, in the order of the contacts."""
    rng = Random(seed + 1_000_000)
    until = until or start_of_today()
    number = 0
    for contact_id in contact_ids:
        for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
            number += 1
            created, modified = _times(rng, until)
            yield {
                "new_orderid": _guid(rng),
                "new_contactid": contact_id,
                "new_name": f"ORD-{number:07d} {rng.choice(_PRODUCTS)}",
                "new_amount": rng.randrange(100, 1_000_000) / 100,
                "new_quantity": rng.randrange(1, 50),
                "new_orderdate": _time(created)[:10] if rng.random() < 0.95 else None,
                "new_placedon": _time(created) if rng.random() < 0.9 else None,
                "new_status": rng.choice(list(ORDER_STATUS)),
                "new_express": rng.random() < 0.2,
                "new_weight": rng.randrange(1, 100_000) / 1000 if rng.random() < 0.7 else None,
                "new_tags": _several(rng, ORDER_TAGS) if rng.random() < 0.3 else None,
                "statecode": 0,
                "statuscode": 1,
                "createdon": _time(created),
                "modifiedon": _time(modified),
            }


def order_lines(order_ids: Iterable[str], seed: int = 1, *, until: datetime | None = None) -> Iterator[Row]:
    """Yield one to three lines for each order, in the order of the orders."""
    rng = Random(seed + 2_000_000)
    until = until or start_of_today()
    for order_id in order_ids:
        for _ in range(rng.choice((1, 1, 2, 3))):
            created, modified = _times(rng, until)
            yield {
                "new_orderlineid": _guid(rng),
                "new_orderid": order_id,
                "new_name": rng.choice(_PRODUCTS),
                "new_price": rng.randrange(50, 200_000) / 100,
                "new_count": rng.randrange(1, 20),
                "statecode": 0,
                "statuscode": 1,
                "createdon": _time(created),
                "modifiedon": _time(modified),
            }


def _guid(rng: Random) -> str:
    digits = f"{rng.getrandbits(128):032x}"
    return (
        f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{'89ab'[int(digits[16], 16) & 3]}{digits[17:20]}-{digits[20:]}"
    )


def _times(rng: Random, until: datetime) -> tuple[int, int]:
    """Return the Unix times of creation and last modification, in seconds. They are equal for a third of the rows."""
    modified = int(until.timestamp()) - rng.randrange(1, SPREAD_DAYS * 86400)
    created = modified if rng.random() < 0.3 else modified - rng.randrange(5 * 365 * 86400)
    return created, modified


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _several(rng: Random, options: dict[int, str]) -> str:
    return ",".join(str(value) for value in sorted(rng.sample(list(options), rng.randrange(1, 4))))
