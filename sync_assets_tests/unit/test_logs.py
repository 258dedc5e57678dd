"""Logs have structured fields and no values of records."""

import ast
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import sync_assets
from sync_assets.logs import FIELDS, WITHHELD, LogSettingsError, configure

LOGGER = logging.getLogger("sync_assets.push.delivery")
PACKAGE = Path(sync_assets.__file__).parent


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger("sync_assets")
    before = (list(root.handlers), root.level, root.propagate)
    factory = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(factory)
    root.handlers[:], root.level, root.propagate = before[0], before[1], before[2]


def test_a_line_of_text_has_time_level_module_message_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure({})
    LOGGER.warning("Campaign throttles requests", extra={"status": 429, "seconds": 1.23456, "attempt": 2})
    [line] = capsys.readouterr().err.splitlines()
    time, rest = line.split(" ", 1)
    assert time.endswith("Z")
    assert rest == ("warning sync_assets.push.delivery: Campaign throttles requests status=429 attempt=2 seconds=1.23")


def test_a_line_of_json_has_the_same_as_members(capsys: pytest.CaptureFixture[str]) -> None:
    configure({"SYNC_ASSETS_LOG_FORMAT": "json"})
    LOGGER.info("lease lost", extra={"table": "contact", "records": 3})
    line = json.loads(capsys.readouterr().err)
    assert (line.pop("time")[-1], line) == (
        "Z",
        {
            "level": "info",
            "logger": "sync_assets.push.delivery",
            "message": "lease lost",
            "table": "contact",
            "records": 3,
        },
    )


def test_a_field_that_is_not_listed_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure({"SYNC_ASSETS_LOG_FORMAT": "json"})
    LOGGER.info("sent", extra={"payload": "ada@example.com"})
    assert "ada" not in capsys.readouterr().err


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_field_with_control_characters_makes_no_second_line(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure({"SYNC_ASSETS_LOG_FORMAT": form})
    LOGGER.info("event", extra={"table": "a\x1b[2J\n2026 error forged"})
    [line] = capsys.readouterr().err.splitlines()
    assert line.isprintable()


@pytest.mark.parametrize(
    ("level", "shown"), [("debug", 4), ("info", 3), ("", 3), ("WARNING", 2), ("warning", 2), ("error", 1)]
)
def test_the_level_is_that_of_the_environment(level: str, shown: int, capsys: pytest.CaptureFixture[str]) -> None:
    configure({"SYNC_ASSETS_LOG_LEVEL": level})
    for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        LOGGER.log(number, "event")
    assert len(capsys.readouterr().err.splitlines()) == shown


@pytest.mark.parametrize("name", ["SYNC_ASSETS_LOG_LEVEL", "SYNC_ASSETS_LOG_FORMAT"])
def test_an_unknown_value_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(LogSettingsError, match=f"{name} is `loud`") as refused:
        configure({name: "loud"})
    assert "Set it to" in str(refused.value)


def test_configured_twice_each_line_is_written_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure({})
    configure({})
    LOGGER.info("event")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_httpx_does_not_log_addresses() -> None:
    configure({"SYNC_ASSETS_LOG_LEVEL": "debug"})
    assert logging.getLogger("httpx").level == logging.WARNING


SECRET = "hush~hush"


LIBRARIES = (
    *("httpx", "httpcore.http11", "aiohttp.client", "urllib3.connectionpool", "msal.application"),
    *("paramiko.transport", "sqlalchemy.engine.Engine", "a.new.library"),
)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR])
def test_no_library_logs_data_of_a_request(library: str, level: int, caplog: pytest.LogCaptureFixture) -> None:
    configure({})
    logger = logging.getLogger(library)
    with caplog.at_level(logging.DEBUG, logger=library):
        logger.log(
            level, "POST %s with %r", f"https://u:{SECRET}@host/x?email=ada@example.com", {"client_secret": SECRET}
        )
        logger.log(level, f"Authorization: Bearer {SECRET}; access_token='{SECRET}'")
        try:
            raise ValueError(SECRET)
        except ValueError:
            logger.log(level, "it failed", exc_info=True)
        logger.log(level, "one argument for two: %s %s", SECRET)
    assert len(caplog.records) == 4
    assert "ValueError at test_logs.py" in caplog.text
    assert SECRET not in caplog.text
    assert "ada@example.com" not in caplog.text
    assert all(record.name == library for record in caplog.records)


def test_a_library_s_warning_keeps_its_words(caplog: pytest.LogCaptureFixture) -> None:
    configure({})
    logging.getLogger("sqlalchemy.pool").warning("Connection %s was lost at %s:%d", "a1", "db.example.com", 5432)
    assert caplog.messages == ["Connection a1 was lost at db.example.com:5432"]


def test_below_warning_a_constant_text_stays(caplog: pytest.LogCaptureFixture) -> None:
    configure({})
    with caplog.at_level(logging.DEBUG, logger="msal"):
        logging.getLogger("msal").debug("Found %d cached tokens of %-10s (100%%)", 3, SECRET)
        logging.getLogger("msal").debug(f"Found {SECRET}")
    assert caplog.messages == ["Found … cached tokens of … (100%%)", WITHHELD]


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Each call of a logger in the package, with its file and line."""
    names = {"debug", "info", "warning", "error"}
    for file in sorted(PACKAGE.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "_log." in text else ():
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in names
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "_log"
            ):
                yield f"{file.relative_to(PACKAGE)}:{node.lineno}", node


def test_each_message_of_the_program_is_constant_text_with_listed_fields() -> None:
    """What varies goes into fields, whose names are listed: so no value of a record gets into a line by chance."""
    result = list(calls())
    assert len(result) > 10
    for at, call in result:
        assert isinstance(call.args[0], ast.Constant), at
        for fields in [one.value for one in call.keywords if one.arg == "extra"]:
            assert isinstance(fields, ast.Dict), at
            assert {one.value for one in fields.keys if isinstance(one, ast.Constant)} <= set(FIELDS), at
