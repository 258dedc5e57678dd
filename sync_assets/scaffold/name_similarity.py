"""Measure how alike a Dynamics 365 name and a Campaign name are. Pure.

Both are normalised: `emailaddress1` and `email`, `address1_city` and `location.city`, `new_LastVisit`, `new_lastvisit`
and `cusLastVisit`. Sources of the names, prefixes included:
https://learn.microsoft.com/power-apps/developer/data-platform/reference/entities/contact
https://experienceleague.adobe.com/docs/campaign-standard/using/developing/datamodel/datamodel-profile.html
"""

import re
from difflib import SequenceMatcher

from sync_assets.campaign.metadata import Attribute
from sync_assets.dataverse.metadata import Column
from sync_assets.words import plain

PROFILE_KEY = "externalId"
"""The attribute of a profile that holds the Dynamics 365 id (docs/dev/references/campaign.md 14)."""

PROFILE_PAIRS = {
    "salutation": "salutation",
    "firstname": "firstName",
    "middlename": "middleName",
    "lastname": "lastName",
    "emailaddress1": "email",
    "telephone1": "phone",
    "mobilephone": "mobilePhone",
    "fax": "fax",
    "birthdate": "birthDate",
    "gendercode": "gender",
    "address1_line1": "location.address1",
    "address1_line2": "location.address2",
    "address1_line3": "location.address3",
    "address1_city": "location.city",
    "address1_postalcode": "location.zipCode",
}
"""Columns of contact and attributes of profile with the same meaning. Adobe's pages name only the pair of tables and
`location.address2` (docs/dev/references/campaign.md 14); the others follow from the two vendors' data models.
"""

LEAST_SIMILARITY = 0.75

_COLUMNS = {
    "emailaddress1": "email",
    "telephone1": "phone",
    "telephone2": "homephone",
    "websiteurl": "website",
    "statecode": "status",
    "statuscode": "statusreason",
    "address1_line1": "location.address1",
    "address1_line2": "location.address2",
    "address1_line3": "location.address3",
    "address1_stateorprovince": "location.state",
}
"""Column names of Microsoft's that no rule covers."""

_SYNONYMS = {
    "birthday": "birthdate",
    "dateofbirth": "birthdate",
    "emailaddress": "email",
    "familyname": "lastname",
    "givenname": "firstname",
    "mail": "email",
    "mobile": "mobilephone",
    "phonenumber": "phone",
    "postalcode": "zipcode",
    "surname": "lastname",
    "telephone": "phone",
    "zip": "zipcode",
}
"""Words with the same meaning."""

_PUBLISHER = re.compile(r"^[a-z][a-z0-9]{1,7}_(?=.)")
"""The publisher's prefix of 2 to 8 characters with which custom columns and tables begin, as in `new_order`."""
_ADDRESS = re.compile(r"^address(\d)_(\w+)$")


def of_table(name: str) -> str:
    """Normalise a table's name: `new_order` -> order."""
    return _singular(plain(_PUBLISHER.sub("", name)))


def of_resource(name: str) -> str:
    """Normalise a resource's name: `cusOrders` -> order."""
    return _singular(plain(_without_cus(name)))


def of_column(column: Column) -> str:
    """Normalise a column's name: `address1_city` -> location.city, and that of a choice, `gendercode` -> gender."""
    if path := _COLUMNS.get(column.name):
        return path
    if address := _ADDRESS.match(column.name):
        part = _word(address[2])
        return f"location.{part}" if address[1] == "1" else f"address{address[1]}{part}"
    name = _PUBLISHER.sub("", column.name)
    if column.type == "picklist" and name.endswith("code"):
        name = name.removesuffix("code") or name
    return _word(name)


def of_attribute(path: str) -> str:
    """Normalise an attribute's path: `cusLastVisit` -> lastvisit, `location.zipCode` -> location.zipcode."""
    return ".".join(_word(_without_cus(part)) for part in path.split("."))


def likeness(column: Column, attribute: Attribute, noun: str = "") -> tuple[int, str]:
    """Return how sure it is that two names mean the same, in percent, and why. noun: the table's, as of `of_table`."""
    left, right = of_column(column), of_attribute(attribute.path)
    last, bare = right.rpartition(".")[2], left.rpartition(".")[2]
    if left == right:
        return 95, "the same name"
    if "." not in right and bare == last:
        return 88, "the same name"
    if noun and left and right in (f"{noun}{left}", left.removeprefix(noun)):
        return 85, f"the same name but for `{noun}`"
    if column.label and "." not in right and _word(column.label) == last:
        return 85, "named as the column is labelled"
    return round(80 * similarity(left, right)), "a similar name"


def similarity(left: str, right: str) -> float:
    """Return the similarity from 0 to 1; 0 if less than three quarters of the letters match, which may be chance."""
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    if min(matcher.real_quick_ratio(), matcher.quick_ratio()) < LEAST_SIMILARITY:
        return 0.0
    ratio = matcher.ratio()
    return ratio if ratio >= LEAST_SIMILARITY else 0.0


def _word(text: str) -> str:
    word = plain(text)
    return _SYNONYMS.get(word, word)


def _without_cus(name: str) -> str:
    return re.sub(r"^cus(?=[A-Z0-9_])", "", name)


def _singular(word: str) -> str:
    return word.removesuffix("s") if len(word) > 3 else word
