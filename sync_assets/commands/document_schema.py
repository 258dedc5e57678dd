"""Write docs/json-documents.md: the JSON Schema of documents that `--json` prints, by their structs.

python -m sync_assets.commands.document_schema
"""

import json
import re
from pathlib import Path
from typing import Any

import msgspec

from sync_assets.commands.accept_systems import MovedSystems
from sync_assets.commands.audit import AuditDocument
from sync_assets.commands.doctor import DoctorDocument
from sync_assets.commands.explanation import ExplainDocument
from sync_assets.commands.export_sample import SampleDocument
from sync_assets.commands.history import HistoryDocument
from sync_assets.commands.hold_document import AddedHold, HoldList, ReleasedHold, VerifiedHold
from sync_assets.commands.ledger_check import LedgerCheck
from sync_assets.commands.loads import LoadsDocument
from sync_assets.commands.plan_document import PlanDocument
from sync_assets.commands.rebuild import RebuildDocument
from sync_assets.commands.rejects import RejectsDocument
from sync_assets.commands.status import Status, SyncDocument
from sync_assets.commands.step_document import StepsDocument

PAGE = Path(__file__).parents[1] / "docs" / "json-documents.md"
DOCUMENTS = (
    *(AuditDocument, ExplainDocument, Status, SyncDocument, PlanDocument, DoctorDocument, SampleDocument, LedgerCheck),
    *(HistoryDocument, AddedHold, HoldList, ReleasedHold, VerifiedHold, LoadsDocument, RebuildDocument),
    *(RejectsDocument, StepsDocument, MovedSystems),
)


def schema() -> dict[str, Any]:
    """Return the schema of each struct, in `$defs`. Descriptions are the docstrings and their attributes."""
    _, parts = msgspec.json.schema_components(DOCUMENTS, ref_template="#/$defs/{name}")
    for part in parts.values():
        part["description"], _, attributes = part["description"].partition("\n\nAttributes:\n")
        part["description"] = " ".join(part["description"].split())
        for name, text in re.findall(r"^ +(\w+): (.+)$", attributes, re.MULTILINE):
            part["properties"][name]["description"] = text
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": parts}


def page() -> str:
    """Return the page: its words, then the schema, with a line for each member."""
    words, fence, _ = PAGE.read_text("utf-8").partition("```json\n")
    text = re.sub(r'\n {5,}|\n {4}(?=[\]}]|"\w+",?\n)', " ", json.dumps(schema(), indent=1))
    return f"{words}{fence}{text}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
