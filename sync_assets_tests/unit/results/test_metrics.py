"""The metrics, their page, and what `deploy/monitoring` makes of them: names that exist, texts that are right."""

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from sync_assets.cli import main
from sync_assets.config.files import SANDBOX_CONFIG
from sync_assets.errors import SyncAssetsError
from sync_assets.results import metrics
from sync_assets.results.metrics import METRICS, PREFIX, LedgerCollector
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.ledger_access import RunOptions
from sync_assets_tests.support.prometheus import PROMTOOL, RULES, samples, value
from sync_assets_tests.unit.test_runbooks import PARTS

DASHBOARD = json.loads(RULES.with_name("dashboard.json").read_text("utf-8"))
GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
ALARMS = [rule for group in GROUPS for rule in group["rules"]]
EXPRESSIONS = [rule["expr"] for rule in ALARMS] + [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
]
SUFFIXES = {"gauge": ("",), "counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
LABELS = {
    f"{PREFIX}{name}{suffix}": {*about.labels, "instance", *(["le"] if about.kind == "histogram" else [])}
    for name, about in METRICS.items()
    for suffix in SUFFIXES[about.kind]
}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_each_expression_names_metrics_and_labels_that_exist(expression: str) -> None:
    used = re.findall(rf"\b({PREFIX}\w+)(?:\{{([^}}]*)\}})?", expression)
    assert used
    for name, selected in used:
        assert name in LABELS
        assert set(re.findall(r"(\w+)[=!]", selected)) <= LABELS[name]
    for grouped in re.findall(r"(?:by|on) \(([\w, ]+)\)", expression):
        assert set(grouped.split(", ")) <= set[str]().union(*(LABELS[name] for name, _ in used))


def test_every_metric_is_shown_or_watched() -> None:
    used = set(re.findall(rf"\b{PREFIX}\w+", " ".join(EXPRESSIONS)))
    left = {
        name for name, about in METRICS.items() if not {f"{PREFIX}{name}{end}" for end in SUFFIXES[about.kind]} & used
    }
    assert left == {"feed_complete", "sftp_age_seconds", "audit_part", "loads"}


def test_each_alarm_has_a_severity_a_summary_a_remedy_and_a_runbook_that_exists() -> None:
    described = {name for heading in PARTS for name in re.findall(r"`(\w+)`", heading)}
    for rule in ALARMS:
        assert rule["labels"]["severity"] in {"warning", "error"}
        assert rule["annotations"].keys() == {"summary", "description"}
        assert rule["labels"].get("runbook", "backlog_is_young") in described
        text = rule["annotations"]["description"].replace("{{ $labels.table }}", "contact")
        for name, *words in map(str.split, re.findall(r"`sync-assets ([^`]+)`", text)):
            main.load(name).make_context(name, words)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: promtool)")
def test_prometheus_takes_the_rules() -> None:
    subprocess.run([str(PROMTOOL), "check", "rules", "--lint-fatal", str(RULES)], check=True)


def test_the_dashboard_has_panels_side_by_side_and_one_data_source() -> None:
    cells = set[tuple[int, int]]()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not own & cells
        assert at["x"] + at["w"] <= 24
        cells |= own
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_page_has_the_table_of_the_metrics() -> None:
    assert metrics.PAGE.read_text("utf-8") == metrics.page(), "run: python -m sync_assets.results.metrics"


def test_an_error_of_the_ledger_is_announced_once_and_its_end_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, lines = Runtime({"SYNC_ASSETS_CONFIG": str(SANDBOX_CONFIG), "DAGSTER_HOME": str(tmp_path)}), list[str]()
    registry = CollectorRegistry(auto_describe=False)
    registry.register(LedgerCollector(runtime.config, runtime.access, lines.append))

    def up() -> bool:
        return samples(generate_latest(registry).decode())["sync_assets_up"] == {(): 1}

    assert up()
    for kind, text in ((SyncAssetsError, "Out of reach."), (ValueError, "Anna Berg")):

        def refuse(*_: object, kind: type[Exception] = kind, text: str = text) -> None:
            raise kind(text)

        with monkeypatch.context() as patch:
            patch.setattr(metrics, "last_result", refuse)
            assert (up(), up()) == (False, False)
        assert up()
    assert lines == ["Out of reach.", lines[-1]]
    assert "ValueError" in lines[-1]
    assert "Anna" not in lines[-1]


def test_scrapes_at_the_same_time_do_not_close_each_others_ledger(tmp_path: Path) -> None:
    environment, lines = {"SYNC_ASSETS_CONFIG": str(SANDBOX_CONFIG), "DAGSTER_HOME": str(tmp_path)}, list[str]()
    runtime, registry = Runtime(environment, use=RunOptions(may_create=False)), CollectorRegistry(auto_describe=False)
    registry.register(LedgerCollector(runtime.config, runtime.access, lines.append))
    with ThreadPoolExecutor(8) as threads:
        texts = [*threads.map(lambda _: generate_latest(registry), range(40))]
    assert {value(text.decode(), "up") for text in texts} == {0}
    assert len(lines) == 1, lines
