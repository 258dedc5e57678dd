"""The settings of the interpreter last as long as the work that they are for."""

import sys

import pytest

from sync_assets.performance import SWITCH_SECONDS, threads_switched_often


def test_threads_are_switched_often_until_the_last_capture_has_ended() -> None:
    before = sys.getswitchinterval()
    with threads_switched_often():
        with threads_switched_often():
            assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS)
        assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS)
    assert sys.getswitchinterval() == pytest.approx(before)


def test_a_capture_that_fails_restores_the_interval() -> None:
    before = sys.getswitchinterval()
    with pytest.raises(RuntimeError), threads_switched_often():
        raise RuntimeError
    assert sys.getswitchinterval() == pytest.approx(before)
