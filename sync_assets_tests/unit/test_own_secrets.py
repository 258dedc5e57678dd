"""Our own secrets are removed from texts in each form in which a server may repeat them."""

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets import own_secrets
from sync_assets.errors import SyncAssetsError
from sync_assets.foreign_text import json_text
from sync_assets.http.client import CachedTokens
from sync_assets.http.redaction import redact
from sync_assets.own_secrets import forget, hidden, remember

SECRET = 'gar"den/2026+ä~x%&q'


@pytest.fixture(autouse=True)
def _none_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_secrets, "_known", {})


FORMS = {
    "as it is": SECRET,
    "percent-encoded": quote(SECRET, safe=""),
    "of a form": quote_plus(SECRET),
    "percent-encoded in small letters": "gar%22den%2f2026%2b%c3%a4~x%25%26q",
    "in JSON": json.dumps(SECRET)[1:-1],
    "in JSON of another library": json.dumps(SECRET, ensure_ascii=False)[1:-1],
    "in JSON with slashes": json.dumps(SECRET)[1:-1].replace("/", "\\/"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_removed_in_each_form(form: str) -> None:
    remember(SECRET)
    assert hidden(f"client_secret={FORMS[form]}&scope=x") == "client_secret=…&scope=x"


@pytest.mark.parametrize("encode", [b64encode, urlsafe_b64encode])
@given(
    before=st.text(max_size=6),
    after=st.text(max_size=6),
    secret=st.text(st.characters(min_codepoint=33, exclude_categories=["Cs"]), min_size=12),
)
def test_nothing_of_a_secret_can_be_decoded_from_base64(
    encode: Callable[[bytes], bytes], before: str, after: str, secret: str
) -> None:
    own_secrets._known.clear()
    remember(secret)
    text = encode(f"{before}{secret}{after}".encode()).decode()
    left = hidden(text)
    assert "…" in left
    assert len(left) < len(text) - len(secret.encode()) + 4  # of its first and its last byte a few bits stay


def test_a_word_or_a_short_text_is_none_and_a_token_that_is_forgotten_is_shown() -> None:
    for kept in ("secret", "password", "changeme", "a1b2c3d"):
        assert hidden(remember(kept)) == kept
    assert hidden(remember("a1b2c3d4")) == "…"
    forget("a1b2c3d4")
    assert hidden("a1b2c3d4") == "a1b2c3d4"


def test_errors_reasons_and_documents_have_none() -> None:
    remember(SECRET)
    assert SECRET not in str(SyncAssetsError(f"The server says {SECRET}.", f"Look at {SECRET}"))
    assert redact(f"Bearer {SECRET} is refused", None) == "Bearer … is refused"
    assert json.loads(json_text({"reason": f"it says {SECRET}"})) == {"reason": "it says …"}


async def test_the_tokens_of_a_process_of_weeks_are_the_last_two() -> None:
    numbers = iter(range(9))

    async def fetch() -> tuple[str, float]:
        return f"token-number-{next(numbers)}", 3600.0

    tokens = CachedTokens(fetch)
    token = await tokens.token()
    for _ in range(4):
        token = await tokens.renew(token)
    assert [*own_secrets._known] == ["token-number-3", "token-number-4"]
