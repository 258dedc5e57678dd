"""The part `bulk_load` of the configuration: its defaults, and workflows, attributes and folders that do not fit."""

import pytest

from sync_assets.config.loader import parse_config
from sync_assets_tests.unit.config.test_models import HEAD, ORDER, problems, the_problem

MAPPED = HEAD.replace("firstName}", "firstName, address1_city: location.city, emailaddress1: email}") + ORDER
"""contact and new_order; the part below begins in line 11."""


def load(written: str, more: str = "") -> str:
    """Return a file with `bulk_load` in line 11 and these keys below it."""
    lines = "".join(f"  {line}\n" for line in written.split("\n"))
    return f"{MAPPED}bulk_load:\n{lines}{more}"


def test_without_the_part_nothing_goes_by_file() -> None:
    assert parse_config(MAPPED, "f.yaml").bulk_load is None


def test_one_workflow_is_enough_and_the_rest_has_defaults() -> None:
    by_file = parse_config(load("workflows: {contact: WKF20}"), "f.yaml").bulk_load
    assert by_file is not None
    assert by_file.model_dump() == {
        "above": 200_000,
        "directory": "d365_loads/imports",
        "file_mb": 200,
        "compress": "gz",
        "workflows": {"contact": "WKF20"},
        "on_failure": "rest",
        "wait_hours": 24,
        "updates": (),
        "update_workflows": {},
    }


@pytest.mark.parametrize("updates", ["[location]", "[location.city, email]", "[location, email]"])
def test_updates_by_file_name_attributes_or_their_group_and_need_no_first_load(updates: str) -> None:
    by_file = parse_config(load(f"updates: {updates}\nupdate_workflows: {{contact: WKF30}}"), "f.yaml").bulk_load
    assert by_file is not None
    assert by_file.update_workflows == {"contact": "WKF30"}


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("above: 10", "11: `bulk_load` names no workflow; write e.g. `workflows: {contact: WKF20}`, or remove it"),
        ("workflows: {contatc: WKF20}", "12: `contatc` has a workflow but is not mapped; did you mean `contact`?"),
        (
            "workflows: {account: WKF20}",
            "12: `account` has a workflow but is not mapped; map it under `tables`, or remove its workflow",
        ),
        (
            "updates: [email]\nupdate_workflows: {account: WKF30}",
            "13: `account` has a workflow but is not mapped; map it under `tables`, or remove its workflow",
        ),
        (
            "workflows:\n  contact: WKF20\n  new_order: WKF20",
            "14: workflow `WKF20` is named twice, first in line 13; build a workflow for each table and purpose, and "
            "name each once",
        ),
        (
            "workflows: {contact: WKF20}\nupdates: [location]\nupdate_workflows: {contact: WKF20}",
            "14: workflow `WKF20` is named twice, first in line 12; build a workflow for each table and purpose, and "
            "name each once",
        ),
        (
            "workflows: {contact: WKF20}\nupdates: [location]",
            "13: no workflow imports the files of `updates`; write e.g. `update_workflows: {contact: WKF30}` beside it",
        ),
        (
            "update_workflows: {contact: WKF30}",
            "12: no attribute goes by these workflows; write e.g. `updates: [location]` beside it, or remove it",
        ),
        (
            "update_workflows: {contact: WKF30}\nupdates: [locatoin]",
            "13: no table of `update_workflows` maps `locatoin`; did you mean `location`?",
        ),
        (
            "update_workflows: {contact: WKF30}\nupdates: [location, externalId]",
            "13: no table of `update_workflows` maps `externalId`; map it in `fields`, or its sub-fields, or remove it "
            "here",
        ),
        (
            "update_workflows: {contact: WKF30}\nupdates: [location.city, location]",
            "13: `location` is named twice, by itself or with its group; keep one of the two",
        ),
        (
            "update_workflows: {contact: WKF30, new_order: WKF31}\nupdates: [location]",
            "12: `new_order` maps no attribute of `updates`; remove its workflow, or name an attribute there",
        ),
        (
            "workflows: {contact: WKF20}\ndirectory: ./d365_loads/exports/",
            "13: `./d365_loads/exports/` is the folder of the opt-out files; write another one, as in `directory: "
            "d365_loads/imports`",
        ),
        (
            "workflows: {contact: WKF20}\ndirectory: d365_loads\\imports",
            "13: folders on the SFTP are separated by `/`; write `d365_loads/imports`",
        ),
        ("workflows: {contact: WKF20}\ncompress: zip", "13: `compress` cannot be `zip`; write gz or none"),
        ("workflows: {contact: WKF20}\non_failure: stop", "13: `on_failure` cannot be `stop`; write rest or wait"),
        ("workflows: {contact: WKF20}\nfile_mb: 0", "13: `file_mb` cannot be `0`; it must be greater than 0"),
        ("workflow: {contact: WKF20}", "12: unknown key `workflow`; did you mean `workflows`?"),
    ],
)
def test_what_is_refused(written: str, message: str) -> None:
    assert f"f.yaml:{message}" in problems(load(written))


def test_the_workflow_of_the_opt_out_files_imports_no_load() -> None:
    text = load("workflows: {contact: WKF12}", "opt_out:\n  export: {workflow_id: WKF12}\n")
    assert the_problem(text) == (
        "f.yaml:12: workflow `WKF12` is named twice, first in line 14; build a workflow for each table and purpose, "
        "and name each once"
    )


def test_an_empty_part_is_no_switch() -> None:
    assert the_problem(f"{MAPPED}bulk_load: {{}}\n").startswith("f.yaml:11: `bulk_load` names no workflow")
    assert parse_config(f"{MAPPED}bulk_load: null\n", "f.yaml").bulk_load is None
