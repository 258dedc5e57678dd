"""The program's own secrets and tokens, and texts without them: a server may repeat what it was sent.

Invariant: each secret and token is remembered here before it is sent anywhere. Kept in memory only.
"""

import json
import re
from base64 import b64encode
from urllib.parse import quote, quote_plus

SHORTEST, SHORTEST_WORD = 8, 12
"""Least characters of a secret that is removed; of one that has letters only, since it may be an ordinary word."""
_GONE = "…"
_URL_SAFE = str.maketrans("+/", "-_")
_known: dict[str, tuple[str, ...]] = {}  # secret -> the forms in which it may stand in a text


def remember(secret: str) -> str:
    """Let `hidden` remove a secret from now on. Return it."""
    if secret not in _known and len(secret) >= (SHORTEST_WORD if secret.isalpha() else SHORTEST):
        _known[secret] = tuple(sorted(_forms(secret), key=len, reverse=True))
    return secret


def forget(secret: str) -> None:
    """Drop a token that is not used any more, so that a process that runs for weeks does not collect them."""
    _known.pop(secret, None)


def hidden(text: str) -> str:
    """Return the text without the secrets: as they are, percent-encoded, in JSON, or in base64 at any place of it."""
    for forms in tuple(_known.values()):
        for form in forms:
            if form in text:
                text = text.replace(form, _GONE)
    return text


def _forms(secret: str) -> set[str]:
    raw = secret.encode("utf-8", "surrogateescape")
    in_json = [json.dumps(secret, ensure_ascii=ascii)[1:-1] for ascii in (True, False)]
    forms = {secret, quote(raw, safe=""), quote_plus(raw), *in_json, *(form.replace("/", "\\/") for form in in_json)}
    forms |= {re.sub("%..", lambda match: match[0].lower(), form) for form in forms}
    for before in range(3):  # bytes before it in a group of three, of which base64 makes four letters
        encoded = b64encode(bytes(before) + raw).decode().rstrip("=")
        own = encoded[(0, 2, 3)[before] : len(encoded) - bool((before + len(raw)) % 3)]
        forms |= {own, own.translate(_URL_SAFE)}
    return forms
