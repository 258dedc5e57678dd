"""Prometheus' own parser and tools: samples of a text, and alert rules over a series of scrapes."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

RULES = Path(__file__).parents[2] / "deploy" / "monitoring" / "rules.yaml"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: promtool)")

Labels = tuple[tuple[str, str], ...]
Samples = dict[str, dict[Labels, float]]


def samples(text: str) -> Samples:
    """Return the value of each sample, by name and labels in order of their names."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels.keys() <= {"table", "state", "kind", "period", "system", "status", "ended_as", "le"}
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def value(text: str, name: str, **labels: str) -> float:
    """Return the value of one sample."""
    return samples(text)[f"sync_assets_{name}"][tuple(sorted(labels.items()))]


def assert_firing(scrapes: Sequence[str], lasting: int, expected: set[tuple[str, str]], folder: Path) -> None:
    """Assert that exactly these (alert, table) of the shipped rules fire at the end of scrapes, a minute apart.

    lasting: minutes for which the last scrape goes on. Without promtool nothing is evaluated.
    """
    if PROMTOOL is None:
        return
    every = [samples(text) for text in scrapes]
    series: dict[str, list[str]] = {}
    for number, scrape in enumerate(every):
        for name, values in scrape.items():
            for labels, of_labels in values.items():
                inner = ",".join(f'{key}="{text}"' for key, text in (("instance", "one"), *labels))
                series.setdefault(f"{name}{{{inner}}}", ["_"] * len(every))[number] = f"{of_labels:g}"
    alerts = 'count by (alertname, table) (ALERTS{alertstate="firing"})'
    wanted = [
        {"labels": f'{{alertname="{alert}"{f", table={table!r}" if table else ""}}}'.replace("'", '"'), "value": 1}
        for alert, table in sorted(expected)
    ]
    minutes = len(every) - 1 + lasting
    test = {
        "interval": "1m",
        "input_series": [
            {"series": key, "values": " ".join(row) + (f" {row[-1]}x{lasting - 1}" if row[-1] != "_" else "")}
            for key, row in series.items()
        ],
        "promql_expr_test": [{"expr": alerts, "eval_time": f"{minutes}m", "exp_samples": wanted}],
    }
    file = folder / "rules_test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}))
    done = subprocess.run([PROMTOOL, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
