"""The daily report, a Dagster asset: `days` computes numbers, `charts` and `page` render them, `assets` defines it."""
