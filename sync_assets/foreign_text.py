"""Escape text of servers, files and the environment for the place where it is shown; remove our own secrets.

Such text may be chosen by a stranger: the name of a file on the SFTP, the error of a server, the label of a table. It
must be shown as it is, and never act: no terminal sequence, no link, no mention of a whole channel.
"""

import json
import re
from typing import Any

import msgspec
from msgspec.structs import asdict, replace

from sync_assets.own_secrets import hidden

_MENTION = re.compile(r"@(?=(?:channel|here|everyone|all)\b)", re.IGNORECASE)
_NOT_ASCII = re.compile(r"[^\n\x20-\x7e]")
_NO_BREAK = "\u200b"
"""An invisible character that keeps a chat or a page from recognising a mention or a link."""
_ACTS = re.compile(
    r"<(?=[A-Za-z/!?])|\](?=[(\[:])|(?i:https?|ftp):(?=/)|(?i:www)(?=\.)|@(?=[\w-])"
    r"|&(?=#?\w+;)|\\(?=[!-/:-@\[-`{-~])"
)
"""Of Markdown: what begins a tag, link, image, bare address, entity or escape; an invisible character after it breaks
them up. Entities and escapes could hide an address, which a page looks for in the text that they stand for.
"""


def printable(text: str) -> str:
    """Return the text for a terminal or a log: control and invisible characters, lines aside, become blanks.

    Among them are escape sequences, bells, changes of the direction of writing, and halves of surrogate pairs.
    """
    text = hidden(text).replace(_NO_BREAK, "")
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)


def one_line(text: str) -> str:
    """Return the text as one printable line without repeated blanks, for a header or an item of a list."""
    return " ".join(printable(text).split())


def markdown(text: str) -> str:
    """Return the text for a place that renders Markdown: no HTML, link, image or bare address. Code spans stay.

    `printable` removes the invisible characters again.
    """
    return _ACTS.sub(rf"\g<0>{_NO_BREAK}", printable(text))


def chat(text: str) -> str:
    """Return the text for Slack, Teams and others alike: `&<>` as entities, no mention of all, no Markdown link."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MENTION.sub(f"@{_NO_BREAK}", text).replace("](", f"]{_NO_BREAK}(")


def json_text(document: Any) -> str:
    """Return JSON for people and programs: readable letters as they are, all others as `\\u` escapes."""
    text = hidden(json.dumps(document, ensure_ascii=False, indent=2))
    return _NOT_ASCII.sub(lambda match: match[0] if match[0].isprintable() else json.dumps(match[0])[1:-1], text)


def cleaned(document: Any) -> Any:
    """Return a document of structs, lists, mappings and texts with each text `printable`."""
    if isinstance(document, str):
        return printable(document)
    if isinstance(document, dict):
        return {cleaned(key): cleaned(value) for key, value in document.items()}
    if isinstance(document, msgspec.Struct):
        return replace(document, **{name: cleaned(value) for name, value in asdict(document).items()})
    return [cleaned(item) for item in document] if isinstance(document, list | tuple) else document
