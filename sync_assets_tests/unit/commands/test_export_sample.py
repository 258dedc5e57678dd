"""`doctor --file`: the first rows one by one, the sums, and no cell of the file but ids cut short, flags and times."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sync_assets.commands.export_sample import SampleDocument, examine_sample, show_sample
from sync_assets.commands.terminal import print_parts
from sync_assets.commands.values import builtins
from sync_assets.errors import SyncAssetsError
from sync_assets.runtime.context import Runtime

TABLE = {"table": "contact", "resource": "profile", "key": "externalId", "fields": {"firstname": "firstName"}}
MAPPINGS = {"donotemail": "blackListEmail", "donotphone": "blackListPhone"}
HEADER = "externalId,blackListEmail,blackListEmailLastModified,blackListPhone,First name"
LABELLED = "External Resource ID,No longer contact by email,blackListEmailLastModified,blackListPhone,First name"
TIME = "2026-11-23T06:00:00.000Z"
SECRET = "Zanzibarlast"


def guid(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-000000000000"


def row(number: int, email: object = 1, time: str = TIME, phone: object = "") -> str:
    return f"{guid(number)},{email},{time},{phone},{SECRET}"


ROWS = [
    row(1),
    row(2, 0, phone=1),
    f",1,{TIME},,{SECRET}",
    row(3, SECRET),
    f"{SECRET}@cage.example,1,,,x",
    row(4, "", ""),
]


def runtime(folder: Path, **opt_out: Any) -> Runtime:
    """Of an environment without either system."""
    config = folder / "config.yaml"
    whole = {"direction": "bidirectional", "mappings": MAPPINGS, **opt_out}
    config.write_text(yaml.safe_dump({"privacy_acknowledged": True, "tables": [TABLE], "opt_out": whole}))
    return Runtime({"SYNC_ASSETS_CONFIG": str(config), "DAGSTER_HOME": str(folder)})


def examined(
    folder: Path, content: bytes | str, name: str = "optout_1.csv", export: dict[str, Any] | None = None, **more: Any
) -> SampleDocument:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    result = examine_sample(runtime(folder, export=export or {}, **more), path)
    assert SECRET not in json.dumps(builtins(result))
    return result


def text(*rows: str, header: str = HEADER) -> str:
    return "".join(f"{line}\n" for line in (header, *rows))


def test_each_of_the_first_rows_is_shown_with_its_values_or_its_rejection(tmp_path: Path) -> None:
    result = examined(tmp_path, text(*ROWS))
    email = {"attribute": "blackListEmail", "changed_at": "2026-11-23T06:00:00Z"}
    phone = {"attribute": "blackListPhone", "opted_out": True, "changed_at": None}
    assert builtins(result.lines) == [
        {"line": 2, "id": "00000001…", "taken": [email | {"opted_out": True}], "rejected": None},
        {"line": 3, "id": "00000002…", "taken": [email | {"opted_out": False}, phone], "rejected": None},
        {"line": 4, "id": None, "taken": None, "rejected": None},
        {
            "line": 5,
            "id": "00000003…",
            "taken": None,
            "rejected": "`blackListEmail` is none of 0, 1, false, true, no, yes",
        },
        {"line": 6, "id": None, "taken": None, "rejected": "`externalId` is no GUID"},
        {"line": 7, "id": "00000004…", "taken": [], "rejected": None},
    ]


def test_the_sums_count_all_rows_reasons_values_and_columns(tmp_path: Path) -> None:
    result = examined(tmp_path, text(*ROWS, *(row(number) for number in range(10, 500))))
    assert len(result.lines) == 10
    assert [one.line for one in result.lines] == list(range(2, 12))
    sums = {name: getattr(result, name) for name in ("rows", "taken", "without_id", "rejected", "date_layout")}
    assert sums == {"rows": 496, "taken": 493, "without_id": 1, "rejected": 2, "date_layout": "xml"}
    assert result.reasons == {
        "`blackListEmail` is none of 0, 1, false, true, no, yes": 1,
        "`externalId` is no GUID": 1,
    }
    assert result.values["blackListEmail"] == {"true": 491, "false": 1, "empty": 1}
    assert (result.unused_columns, result.problem) == (["First name"], None)
    assert result.ids == 493
    [missing_time] = result.warnings
    assert "The file has no column `blackListPhoneLastModified`" in missing_time


@pytest.mark.parametrize(
    ("content", "export", "problem", "write"),
    [
        (text(*ROWS).replace(",", ";"), {}, "are missing", ['separator: ";"']),
        (text(*ROWS).encode("utf-16"), {}, "", ["encoding: utf-16"]),
        (text(*ROWS), {"encoding": "utf-16"}, "", ["encoding: utf-8"]),
        (text(row(1, time="13/04/2026 06:00:00")), {}, "No time", ["date_format: ddmmyyyy"]),
        (
            text(*ROWS, header=LABELLED),
            {},
            "The columns `externalId`, `blackListEmail` are missing in the header.",
            ["key_column: External Resource ID", 'columns: {blackListEmail: "No longer contact by email"}'],
        ),
        (text(*ROWS).partition("\n")[2], {}, "the file must have a header", []),
    ],
)
def test_a_file_that_is_rejected_as_a_whole_is_reported_with_the_remedy(
    tmp_path: Path, content: bytes | str, export: dict[str, Any], problem: str, write: list[str]
) -> None:
    result = examined(tmp_path, content, "optout_1.csv", export)
    assert problem in str(result.problem)
    assert (result.lines, result.rows, result.taken, result.write) == ([], 0, 0, write)


def test_a_file_that_no_run_would_read_is_a_warning(tmp_path: Path) -> None:
    warnings = examined(tmp_path, text(row(1)), "sample.csv", direction="disabled").warnings
    assert warnings[0].startswith("`opt_out.direction` is disabled, so no file is read at all.")
    assert warnings[1].startswith("The name of the file does not match `export.pattern` (optout_*.csv*)")


def test_a_missing_file_and_a_configuration_without_opt_outs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SyncAssetsError, match=r"can't be read \(No such file"):
        examine_sample(runtime(tmp_path), tmp_path / "none.csv")
    with pytest.raises(SyncAssetsError, match=r"`opt_out\.mappings` pairs no column"):
        examine_sample(runtime(tmp_path, direction="disabled", mappings={}), tmp_path / "none.csv")


def test_lines_for_missing_times_are_shown_before_the_sums(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = text(f"{guid(1)},1,{TIME}", header="externalId,blackListEmail,Changed")
    result = examined(tmp_path, content, mappings={"donotemail": "blackListEmail"})
    assert "The file has no column `blackListEmailLastModified`" in result.warnings[0]
    print_parts(show_sample(result))
    output = capsys.readouterr().out
    assert output.startswith('Write below `opt_out.export`:\n    columns: {blackListEmailLastModified: "Changed"}\n')


@pytest.mark.parametrize(
    ("rows", "cause"),
    [
        ([], "The file has a header and no row"),
        ([f",1,{TIME},,x"] * 2, "No row has an id in `externalId`"),
        ([row(1, SECRET)], "Each row is rejected or has no id"),
        ([row(1, SECRET), f",1,{TIME},,x"], "Each row is rejected or has no id"),
    ],
)
def test_a_file_without_a_usable_row_fails_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[str], cause: str
) -> None:
    result = examined(tmp_path, text(*rows))
    assert (result.problem, result.taken) == (None, 0)
    print_parts(show_sample(result))
    assert capsys.readouterr().out.startswith(f"fail No row would be taken. {cause}")


def test_rows_of_the_same_id_differ_from_rows_of_different_ids(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = examined(tmp_path, text(*[row(1)] * 5, row(2)))
    assert result.nothing_taken is None
    print_parts(show_sample(result))
    output = capsys.readouterr().out
    assert "6 rows: 6 taken (of 2 different ids), 0 without an id" in output
    assert "fail" not in output
