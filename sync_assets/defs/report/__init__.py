"""The daily report: `days` its numbers, `charts` and `page` how it looks, `assets` the asset."""
