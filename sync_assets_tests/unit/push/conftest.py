"""Fixtures of deliveries."""

import pytest

from sync_assets.push import delivery


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let a delivery not wait; return the number of attempts before each wait."""
    attempts: list[int] = []
    monkeypatch.setattr(delivery, "backoff", lambda attempt: attempts.append(attempt) or 0)
    return attempts
