"""What is written to Campaign in the benchmark: the payloads that our own transform makes of the feed's rows."""

from __future__ import annotations

from pathlib import Path

from sync_assets.dataverse.page_parser import PageParser
from sync_assets.mapping.transform import transform
from sync_assets_tests.bench.rows import PageTemplate, page_ids
from sync_assets_tests.bench.table import mapping

PAGE = 1000
ELSEWHERE = 1_000_000
"""Numbers of pages that no feed has, so that peers send keys of their own."""


def write_bodies(file: Path, count: int) -> None:
    """So many payloads of inserts, a line each."""
    mapped, template = mapping(), PageTemplate(0, PAGE)
    parser = PageParser({name: mapped.column_types[name] for name in mapped.select})
    with file.open("w", encoding="utf-8") as lines:
        for number in range(-(-count // PAGE)):
            body = template.page(page_ids(ELSEWHERE + number, PAGE), ("deltaLink", ""))
            rows = transform(parser.parse(body).rows, mapped).head(count - number * PAGE)
            lines.writelines(f"{payload}\n" for payload in rows["payload"])
