"""Define the job `explain`: one record from end to end, with the result as a page. Values are always masked."""

# No `from __future__ import annotations`: Dagster reads the annotations of `context` and `config` at run time.

from collections.abc import Iterator
from contextlib import closing

import dagster as dg

from sync_assets.defs.operations.record_runs import add_runs
from sync_assets.defs.run_errors import failing
from sync_assets.errors import SyncAssetsError
from sync_assets.operations.explain import explain
from sync_assets.operations.explanation_sections import CONCLUSIONS, Section, sections
from sync_assets.runtime.context import Runtime


class Explain(dg.Config):
    """`id`: the Dynamics 365 id of the record. `table`: the Dynamics 365 table; empty: each table that has the id."""

    id: str
    table: str = ""


def explain_op(runtime: Runtime) -> dg.OpDefinition:
    """Return the op of the job. The run fails if the record is unknown, or if a system did not answer."""

    @dg.op(name="explain_record", description="Explains one record from end to end; values are masked.")
    def explain_record(context: dg.OpExecutionContext, config: Explain) -> None:
        with closing(runtime), failing("job"):
            explained = explain(runtime, config.id, config.table or None)
            if not explained.document["tables"]:
                raise SyncAssetsError(" ".join(explained.problems))
            add_runs(explained, context.instance)
            context.add_output_metadata(
                {
                    "page": dg.MetadataValue.md(page(list(sections(explained.document)))),
                    "conclusion": CONCLUSIONS[explained.document["in_step"]],
                    "document": dg.MetadataValue.json(explained.document),
                }
            )
            if explained.problems:
                raise SyncAssetsError(" ".join(explained.problems))

    return explain_record


def page(parts: list[Section]) -> str:
    """Return the sections as Markdown."""
    return "\n\n".join("\n".join(_markdown(part, level=3 if n else 2)) for n, part in enumerate(parts))


def _markdown(part: Section, level: int) -> Iterator[str]:
    yield f"{'#' * level} {_escaped(part.title)}"
    yield ""
    yield from (f"- {_escaped(line)}" for line in part.lines)
    if part.rows:
        yield ""
        yield f"| {' | '.join(map(_escaped, part.columns))} |"
        yield f"|{'---|' * len(part.columns)}"
        yield from (f"| {' | '.join(map(_escaped, row))} |" for row in part.rows)


def _escaped(text: str) -> str:
    """Return the text on one line, without a meaning in Markdown's tables."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
