"""What the commands print for people and for scripts: lists of waiting records, CSV, a watched status, one plan."""

import csv
import fcntl
import io
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from sync_assets.cli import sync_runs
from sync_assets.flows import RunOutcome
from sync_assets.runtime.context import Runtime
from sync_assets_tests.support.chain import Chain
from sync_assets_tests.support.lazy_instance import lazy_instance
from sync_assets_tests.support.nightly import by_default
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.terminal import CTRL_C, in_a_terminal
from sync_assets_tests.support.waiting import until


def test_records_that_wait_are_listed_with_their_parents_and_each_ending_names_the_next_command(chain: Chain) -> None:
    """Campaign rejects a contact, and an order waits for it."""
    chain.admin.settings("campaign", bare_data_policy=False)
    [contact] = chain.admin.create("contact", {"firstname": "Ada", "emailaddress1": "no-address"})
    order, _ = chain.order(contact)
    chain.sync()
    status, document = chain.program.json("rejects", "new_order", "--waiting")
    assert status == 0
    [one] = document["waiting"]
    assert one.keys() == {"table", "id", "reason", "since", "parents"}
    assert (one["id"], one["parents"]) == (order, [{"table": "contact", "id": contact, "state": "rejected"}])
    _, text, _ = chain.program.run("rejects", "--waiting")
    assert f"{order} since {one['since']}: contact {contact} rejected" in text

    _, lines, _ = chain.program.run("rejects", "--waiting", "--csv")
    rows = list(csv.DictReader(io.StringIO(lines)))
    assert [row["table"] for row in rows] == ["new_order", "new_orderline"]
    assert rows[0]["parents"] == f"contact {contact} rejected"
    _, lines, _ = chain.program.run("rejects", "--csv")
    [rejected] = csv.DictReader(io.StringIO(lines))
    assert (rejected["id"], rejected["attempts"]) == (contact, "1")
    assert "no-address" not in lines

    run = chain.program.run
    status, output, errors = run("sync")
    assert status == 2
    assert errors.splitlines()[-1] == "sync-assets: Left: 1 rejected, 2 waiting. Go on with `sync-assets rejects`."
    no_call = "0 insert, 0 update, 0 delete, 0 read sent; 0 unchanged rows skipped; 2 records waiting."
    assert re.fullmatch(rf"Ended after [\d.]+ s: {no_call}", output.splitlines()[-1])
    status, _, errors = run("explain", contact)
    assert status == 2
    assert errors.splitlines()[-1].endswith(f"Correct the cause, then `sync-assets retry contact --id {contact}`.")
    chain.admin.fault("d365", "status", status=418)
    status, output, errors = run("sync", "--json")
    assert (status, len(json.loads(output)["problems"])) == (1, 3)
    ending = "sync-assets: Not done, as said above: contact, new_order, new_orderline. `sync-assets doctor`"
    assert errors.splitlines()[-1].startswith(ending)
    status, _, errors = run("doctor")
    assert status == 1
    assert re.fullmatch(
        r"sync-assets: \d+ checks? failed: .+ Then run `sync-assets doctor` again\.", errors.splitlines()[-1]
    )


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("-h", ""),
        ("help", ""),
        ("sync -h", "sync"),
        ("help sync", "sync"),
        ("help hold add", "hold add"),
        ("dev -h", "dev"),
    ],
)
def test_the_options_of_a_command_are_shown(program: Program, words: str, command: str) -> None:
    status, output, _ = program.run(*words.split())
    assert status == 0
    assert f"Usage: sync-assets {command}" in output
    assert not re.search(r"--(?!help)\S+ +<bool>", output)  # as if a flag took a value
    if not command:
        panels = ("Start", "Every day", "When something is wrong", "Ledger", "Servers", "Demo")
        assert re.findall(r"╭─ ([A-Z][a-z ]+) ─", output) == ["Options", *panels]
        assert "--show-completion" in output
        assert program.run("--version")[1].startswith("sync-assets ")


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        *((words, "contact") for words in ("sync --table ", "rejects ", "maintenance on ", "explain --table ")),
        ("rebuild ", "contact"),
        ("--config other/own.yaml rejects ", "concert"),
        ("rejects --config=other/own.yaml ", "concert"),
        ("rejects --env-file other/variables ", "concert"),
        ("--config missing.yaml rejects ", ""),
        ("rejects --env-file missing ", "contact"),
    ],
)
def test_names_of_tables_are_completed_without_any_system(
    program: Program, tmp_path: Path, words: str, completed: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    configuration = Path(program.env["SYNC_ASSETS_CONFIG"]).read_text()
    (other / "own.yaml").write_text(configuration.replace("contact", "concert"))
    (other / "variables").write_text("SYNC_ASSETS_CONFIG=own.yaml")
    typed = f"sync-assets {words.replace('other', str(other))}con"
    program.more |= {"_SYNC_ASSETS_COMPLETE": "complete_bash", "COMP_WORDS": typed, "D365_URL": "http://127.0.0.1:9"}
    program.more["COMP_CWORD"] = str(len(typed.split()) - 1)
    assert program.run() == (0, f"{completed}\n", "")


def test_reports_in_json_and_an_audit_with_repair_where_the_next_sync_does_not_send_the_record(
    program: Program, tmp_path: Path
) -> None:
    admin, copy = program.sandbox.admin, tmp_path / "copy.db"
    assert program.sync().status == 0
    assert program.json("backup", str(copy)) == (0, {"file": str(copy), "bytes": copy.stat().st_size})
    approved = {"table": "contact", "approved": 0, "following": {}, "orphaning": {}, "approved_values": {}}
    assert program.json("approve-deletes", "contact") == (0, approved)
    id_ = next(iter(program.profiles()))
    admin.post("/campaign/change", {"resource": "profile", "keys": [id_], "set": {"cusJobTitle": "A marketer's"}})
    assert "--repair` lets it be sent again" in program.run("explain", id_)[1]
    admin.change("contact", [id_], jobtitle="Changed")
    text = program.run("explain", id_)[1]
    assert "Campaign's record differs in cusJobTitle." in text
    assert "--repair" not in text


def test_a_plan_counts_the_opt_outs_that_are_due(opt_out_program: Program) -> None:
    assert opt_out_program.sync().status == 0
    [id_, *_] = [row["contactid"] for row in opt_out_program.sandbox.admin.dump_d365()]
    opt_out_program.sandbox.admin.change("contact", [id_], donotemail=True)
    status, document = opt_out_program.json("plan")
    assert status == 0
    assert document["opt_out"] == {"decide": 1, "to_d365": 0, "to_campaign": 0, "rejected": 0, "held": 0}
    _, text, _ = opt_out_program.run("plan")
    assert "opt-outs" in text


def test_ctrl_c_in_the_first_steps_is_reported_even_if_a_script_started_the_command_in_the_background(
    program: Program,
) -> None:
    admin = program.sandbox.admin
    admin.latency("d365", 5_000)
    process = subprocess.Popen(
        ["/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-m", "sync_assets.cli", "doctor"],
        env=program.env,
        cwd=program.home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: admin.journal("login") != [])
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "")
    assert errors.splitlines()[-1].startswith("sync-assets: Interrupted.")


@pytest.mark.parametrize("again", [60, pytest.param(0.3, marks=pytest.mark.slow), 0.02])
def test_ctrl_c_in_a_sync_however_often_shows_one_sentence_and_no_traceback(program: Program, again: float) -> None:
    program.sandbox.admin.latency("campaign", 1_000)
    status, text = in_a_terminal(
        program, "sync", typed=CTRL_C, again=again, once=lambda _: program.sandbox.admin.engine_calls()["insert"] > 0
    )
    assert status == 130
    assert not re.search("Traceback|Exception", text)
    ending = "sync-assets: Interrupted. Nothing is lost. Run `sync-assets sync` again to go on."
    assert text.strip().splitlines()[-1] == ending
    program.sandbox.admin.latency("campaign", 0)
    assert program.sync().status == 0


INTERRUPTED_AT_START = """
import sys
from sync_assets.cli.main import main
from sync_assets.commands import status
from sync_assets.runtime.interruptible import interrupt
status.open_runtime = lambda **_: interrupt(2, None)
main()
"""


@pytest.mark.parametrize(("words", "ended"), [("--watch", (0, "")), ("", (130, "sync-assets: Interrupted."))])
def test_ctrl_c_while_a_status_starts_is_the_end_that_a_watched_one_has(
    program: Program, words: str, ended: tuple[int, str]
) -> None:
    command = [sys.executable, "-c", INTERRUPTED_AT_START, "status", *words.split()]
    process = subprocess.run(command, check=False, env=program.env, capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stderr[:25]) == ended


def test_ctrl_c_between_the_flows_of_a_run_is_no_failure_of_the_run() -> None:
    @dg.asset
    def interrupted() -> None:
        signal.raise_signal(signal.SIGINT)

    with lazy_instance() as instance, pytest.raises(KeyboardInterrupt):
        sync_runs.execute(
            Runtime({}), RunOutcome(), instance, [interrupted], dg.RunRequest(asset_selection=[interrupted.key])
        )


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield str(other.getsockname()[1])


@pytest.mark.parametrize(
    "command", ["web", "code-server", *(pytest.param(one, marks=pytest.mark.slow) for one in ("dev", "demo"))]
)
def test_a_server_on_a_port_that_is_taken_is_not_started(program: Program, command: str, taken: str) -> None:
    module = () if command == "demo" else ("-m", "sync_assets.definitions")
    program.folder = instance = Path(program.env["DAGSTER_HOME"])  # without a dagster.yaml
    process = program.start(command, *module, "--port", taken, fresh=True)
    try:
        output, errors = process.communicate(timeout=60)
    finally:
        process.send_signal(signal.SIGINT)
    assert (process.returncode, output) == (1, "")
    *before, last = errors.splitlines()
    assert re.fullmatch(rf"sync-assets: Port {taken} is taken\. Write e\.g\. `sync-assets {command} .*`\.", last)
    if command in ("web", "dev"):
        assert "use_threads: true" in (instance / "dagster.yaml").read_text()
        assert [line.partition(" It ")[0] for line in before] == [f"sync-assets: {instance}/dagster.yaml was missing."]


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the process that waits for a lock is read from /proc")
@pytest.mark.parametrize("command", ["web", "code-server"])
def test_a_server_waits_while_another_command_creates_dagsters_tables(
    program: Program, command: str, taken: str
) -> None:
    with (Path(program.env["DAGSTER_HOME"]) / ".sync_assets.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = program.start(command, "-m", "sync_assets.definitions", "--port", taken, fresh=True)
        until(lambda: f" {process.pid} " in "".join(re.findall("-> FLOCK.*", Path("/proc/locks").read_text())))
    assert f"Port {taken} is taken." in process.communicate(timeout=60)[1]


@pytest.mark.slow  # a `dagster dev` of its own
def test_dev_without_arguments_prints_its_address_and_ends_on_ctrl_c_without_a_traceback(program: Program) -> None:
    status, text = in_a_terminal(
        program, "dev", typed=CTRL_C, again=0.4, once=lambda shown: "Dagster's UI: http" in shown
    )
    assert status == 0, text
    assert "Dagster's UI: http://127.0.0.1:" in text
    assert text.endswith("sync-assets: Stopping…\n")
    assert not re.search(r"Traceback|Aborted|withheld|dg dev|DAGSTER_HOME|Warning", text), text


def test_a_second_dev_on_an_instance_is_not_sent_to_another_port(program: Program, taken: str) -> None:
    with (Path(program.env["DAGSTER_HOME"]) / ".sync_assets.dev.lock").open("w") as lock:  # as the first one has it
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = program.start("dev", "--port", taken, fresh=True)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert re.match("sync-assets: Another `sync-assets dev` serves .* end it by Ctrl-C", errors.splitlines()[-1])


@pytest.mark.slow  # starts processes that import Dagster
def test_dev_with_a_variable_that_is_missing_ends_and_names_it(program: Program) -> None:
    program.more["CAMPAIGN_SCOPES"] = ""
    status, _, errors = program.run("dev", "--port", "0")
    assert status == 1
    assert "sync-assets: CAMPAIGN_SCOPES is not set." in errors
    ending = "sync-assets: The code server of sync_assets.definitions ended, and with it the others."
    assert errors.splitlines()[-1].startswith(ending)


def test_a_reader_that_closes_the_pipe_ends_a_command_with_one_line(program: Program) -> None:
    process = program.start("schema", fresh=True)
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read().startswith("sync-assets: Standard output was closed before all was printed.")
    assert process.wait(60) == 1


@by_default("command", ["status", "status --json", "status --table", "schema"], "status --json", "schema")
def test_an_output_on_a_full_disk_ends_a_command_with_1_and_the_reason(program: Program, command: str) -> None:
    """Python writes what is left once more when it ends, unless it is unbuffered, and would end with 120."""
    program.make_ledger()
    words = [sys.executable, "-m", "sync_assets.cli", *command.split()]
    env = {name: value for name, value in program.env.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        ended = subprocess.run(words, check=False, env=env, cwd=program.home, stdout=full, stderr=subprocess.PIPE)
        reason = b"No such option" if command == "status --table" else b"a full disk"
        assert (ended.returncode, reason in ended.stderr, b"Traceback" in ended.stderr) == (1, True, False), ended
        ended = subprocess.run(words, check=False, env=env, cwd=program.home, stdout=full, stderr=full)
        assert ended.returncode == 1


def test_a_record_is_explained_by_a_column_and_a_value(program: Program) -> None:
    program.more["SYNC_ASSETS_LOG_LEVEL"] = "debug"
    admin, value = program.sandbox.admin, 'O\'Neil, "Nell" & Co'
    first, second = admin.create("contact", {"lastname": value, "jobtitle": "A"}, {"lastname": value, "jobtitle": "B"})
    assert program.sync().status == 0
    status, output, errors = program.run("explain", "--where", "jobtitle=A", "--table", "contact")
    assert status == 0
    form = f"{program.env['D365_URL']}/main.aspx?pagetype=entityrecord&etn=contact&id={first}"
    assert form in output.replace("\n", "")
    endings = {
        f"lastname={value}": "2 rows have this value of lastname. Explain one of them: `sync-assets explain ID`.",
        "lastname=Nobody-Here": "No row of Dynamics 365 has this value of lastname. Correct it. Then run",
        "lastnam=Nobody-Here": "No mapped table has a column `lastnam` in Dynamics 365. Did you mean lastname?",
        "Nobody-Here": "`--where` names no column with a value",
    }
    for condition, ending in endings.items():
        status, output, errors = program.run("explain", "--where", condition)
        assert status == 1
        assert errors.splitlines()[-1].startswith(f"sync-assets: {ending}")
        assert output == ("".join(f"contact {id_}\n" for id_ in sorted((first, second))) if value in condition else "")
        assert value not in errors
        assert "Nobody-Here" not in errors
    rows = [{"table": "contact", "id": id_} for id_ in sorted((first, second))]
    assert program.json("explain", "--where", f"lastname={value}") == (1, {"rows": rows})
