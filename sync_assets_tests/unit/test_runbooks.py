"""There is a runbook for each alarm, and none for what raises none (docs/runbooks.md)."""

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from sync_assets.alerts.incidents import Kind
from sync_assets.config.files import SANDBOX_CONFIG
from sync_assets.defs.build import build_definitions
from sync_assets.runtime.context import Runtime

PAGE = Path(__file__).parents[2] / "sync_assets" / "docs" / "runbooks.md"
RUNBOOKS = PAGE.read_text("utf-8").partition("\n## Alarms\n")[2]
PARTS = dict(part.split("\n", 1) for part in RUNBOOKS.split("\n### ")[1:])
OF_KIND: dict[str, tuple[str, ...]] = {
    "run": ("A run failed", "A run was killed"),
    "sensor": ("A sensor fails",),
    "freshness": ("Data is stale",),
    "threshold": ("A threshold is exceeded",),
    "check": (),  # one for each check
}


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    """With everything that can raise an alarm."""
    document = yaml.safe_load(SANDBOX_CONFIG.read_text("utf-8"))
    document["opt_out"] = {"direction": "bidirectional", "mappings": {"donotemail": "blackListEmail"}}
    document["alerts"] = {"webhook": True}
    document["bulk_load"] = {"workflows": {"contact": "WKF20"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(document))
    return Runtime({"SYNC_ASSETS_CONFIG": str(tmp_path / "config.yaml")})


def test_each_check_has_one(runtime: Runtime) -> None:
    repository = build_definitions(runtime).get_repository_def()
    described = {name for heading in PARTS for name in re.findall(r"`(\w+)`", heading)}
    assert described == {key.name for key in repository.asset_graph.asset_check_keys}
    sensors = {sensor.name for sensor in repository.sensor_defs}
    assert sensors == set(re.findall(r"`(\w+)`", PARTS["A sensor fails"].partition("**Look**")[0]))


def test_each_other_kind_of_incident_has_one() -> None:
    assert OF_KIND.keys() == set(get_args(Kind))
    named = {heading for headings in OF_KIND.values() for heading in headings} | {"Pings stop"}
    of_aws = {heading for heading in PARTS if heading.startswith("AWS, ")}  # flows/deploy/test_aws.py compares them
    assert {heading for heading in PARTS if "`" not in heading} - of_aws == named


@pytest.mark.parametrize("alarm", PARTS)
def test_each_runbook_has_meaning_place_and_remedy(alarm: str) -> None:
    assert re.findall(r"^- \*\*(\w+)\*\*: \S", PARTS[alarm], re.MULTILINE) == ["Means", "Look", "Do"]
