"""Text of strangers is shown as it is and never acts, wherever it is shown."""

import json
import re
from html import unescape
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from sync_assets.errors import SyncAssetsError
from sync_assets.foreign_text import chat, cleaned, json_text, markdown, one_line, printable

HOSTILE = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x9b2J",
    "over\rwritten",
    "\u202egnp.exe",
    "half \ud800 a pair",
    "a\nb\r\nSubject: c",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_reaches_the_terminal_that_it_would_obey(text: str) -> None:
    for line in printable(text).split("\n"):
        assert line.isprintable()
    assert one_line(text).isprintable()
    error = SyncAssetsError(f"The server answered {text}.", f"Look at {text}")
    assert "".join(str(error).split("\n")).isprintable()


@given(st.text())
def test_printable_text_stays_as_it_is(text: str) -> None:
    assert printable(printable(text)) == printable(text)
    if text.isprintable():
        assert printable(text) == text


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_is_the_same_document_in_printable_letters(document: Any) -> None:
    text = json_text(document)
    assert json.loads(text) == document
    assert text.replace("\n", "").isprintable()
    for one in json_text(cleaned(document)).split("\n"):
        assert one.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "![x](https://evil.example/p.png)",
        "[Sign in](https://evil.example)",
        "<https://evil.example>",
        "[a][b]",
        "[a]\n\n[a]: https://evil.example",
        "![a]\n\n[a]: <https://evil.example/p.png>",
        "[a](<javascript:alert(1)>)",
        "https://evil.example/login",
        "HTTP://evil.example and (www.evil.example)",
        "https\\://evil.example",
        "https:\\//evil.example",
        "https:/\\/evil.example and www\\.evil.example",
        "&#104;ttps://evil.example",
        "https&colon;//evil.example",
        "https:&sol;/evil.example",
        "&lt;img src=x&gt; www&period;evil.example",
        "ada@evil.example, mailto:ada@evil.example",
        "ada\\@evil.example ada&commat;evil.example",
        "ht\u200btps://evil.example ]\u200b(x)",
        "a < b and `sync-assets doctor`",
        "`[a](https://evil.example)` ``www.evil.example``",
    ],
)
def test_markdown_shows_the_text_itself(text: str) -> None:
    html = MarkdownIt("commonmark").render(markdown(text))
    assert "<a " not in html
    assert "<img" not in html
    assert "<script" not in html
    assert ("<code>" in html) == ("`" in text)
    shown = unescape(re.sub("<[^>]+>", "", html))
    assert not LITERAL.search(shown)
    if not {*text} & {"\u200b", "\n", "`"}:
        assert printable(shown).strip() == text  # its invisible characters are no part of it


LITERAL = re.compile(r"https?://|www\.|[-.\w+]+@[-\w]+\.[-\w]", re.IGNORECASE)
"""What GitHub's Markdown, which Dagster's pages show, makes a link of, also in a text that entities or escapes hid.

https://github.com/syntax-tree/mdast-util-gfm-autolink-literal
"""


@given(st.text("aw.@:/\\<>[]()!&#;`htps \n1", max_size=60))
def test_no_text_becomes_a_link(text: str) -> None:
    html = MarkdownIt("commonmark").render(markdown(text))
    assert "<a " not in html
    assert "<img" not in html
    assert not LITERAL.search(unescape(re.sub("<[^>]+>", "", html)))


@pytest.mark.parametrize("text", ["<!channel>", "<@U1>", "<https://evil.example|Sign in>", "&lt;!here&gt;"])
def test_slack_gets_no_mention_and_no_link(text: str) -> None:
    assert "<" not in chat(text)
    assert ">" not in chat(text)
    assert chat(text).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == text


def test_a_chat_gets_no_mention_of_all_and_no_markdown_link() -> None:
    assert "@channel" not in chat("@channel look")
    assert "@all" not in chat("@ALL").lower()
    assert "](" not in chat("[Sign in](https://evil.example)")
    assert chat("ops@example.com: 1 record") == "ops@example.com: 1 record"
