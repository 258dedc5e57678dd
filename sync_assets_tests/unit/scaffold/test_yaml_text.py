"""What is written: accepted by the program whatever the metadata, and ready to be taken up line by line."""

import re
from dataclasses import replace
from datetime import date

import jsonschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_assets.campaign.metadata import Attribute, AttributeType, Resource
from sync_assets.config.json_schema import json_schema
from sync_assets.config.loader import Document, parse_config
from sync_assets.config.models import Config, TableOptions
from sync_assets.dataverse.metadata import Column, ColumnType, Table
from sync_assets.mapping.table_mapping import compile_mapping
from sync_assets.scaffold.suggestions import MappedTables, Suggested, suggest_table
from sync_assets.scaffold.yaml_text import table_block, whole_file
from sync_assets_tests.unit.scaffold.world import CONTACT, PROFILE, attribute, column, resource, suggested, table

EDITOR = jsonschema.Draft7Validator(json_schema())

WORDS = st.sampled_from(["name", "status", "city", "amount", "order", "null", "email", "x1", "code", "true", "line"])
COLUMN_TYPES: tuple[ColumnType, ...] = (
    "string", "memo", "integer", "decimal", "boolean", "picklist", "multiselect", "datetime", "date", "lookup", "state",
)  # fmt: skip
ATTRIBUTE_TYPES: tuple[AttributeType, ...] = (
    "string", "integer", "float", "boolean", "date", "datetime", "enumeration", "link", "collection", "group",
)  # fmt: skip
LABELS = st.text(max_size=12)
"""Whatever people call their things, line ends and `#` included."""

START = date(2026, 11, 26)


@st.composite
def columns(draw: st.DrawFn) -> Column:
    name = draw(st.sampled_from(["", "new_", "address1_"])) + "".join(draw(st.lists(WORDS, min_size=1, max_size=2)))
    kind = draw(st.sampled_from(COLUMN_TYPES))
    choices = kind in ("boolean", "picklist", "multiselect", "state")
    labels = draw(st.dictionaries(st.integers(0, 3), LABELS, min_size=1, max_size=3)) if choices else {}
    targets = ("contact",) if kind == "lookup" else ()
    length = draw(st.sampled_from([None, 5, 100]))
    return Column(name, kind, label=draw(LABELS), labels=labels, targets=targets, max_length=length)


@st.composite
def attributes(draw: st.DrawFn) -> Attribute:
    parts = draw(st.lists(WORDS, min_size=1, max_size=2))
    path = draw(st.sampled_from(["cus", "", "location."])) + "".join(part.title() for part in parts)
    kind = draw(st.sampled_from(ATTRIBUTE_TYPES))
    values = tuple(draw(st.lists(st.text(max_size=8), max_size=3, unique=True))) if kind == "enumeration" else ()
    return Attribute(
        path,
        kind,
        length=draw(st.sampled_from([None, 5, 100])),
        read_only=draw(st.booleans()),
        mandatory=draw(st.booleans()),
        values=values,
        target="profile" if kind == "link" else None,
    )


def contact() -> Suggested:
    return suggest_table(CONTACT, "Contact", PROFILE, MappedTables({"contact": "profile"}, {}))


def checked(text: str, *tables: tuple[Table, Resource]) -> Config:
    """The file as the program takes it, compiled against the metadata."""
    config = parse_config(text, "f")
    for of, to in tables:
        compile_mapping(config.table(of.name), of, to, config.targets)
    return config


def switched_on(text: str) -> str:
    """Every suggestion taken up: `# ` is gone before keys and entries."""
    return re.sub(r"^( +)# (?=( *)(-? ?\{|[\w\"]+:|- ))", r"\1", text, flags=re.MULTILINE)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(columns(), max_size=8), st.lists(attributes(), max_size=8), LABELS)
def test_the_written_configuration_is_valid_for_any_metadata(
    some: list[Column], others: list[Attribute], label: str
) -> None:
    of, to = table("new_thing", column("new_sure"), *some), resource("cusThing", attribute("cusSure"), *others)
    targets = {"contact": "profile", "new_thing": "cusThing"}
    thing = suggest_table(of, label, to, MappedTables(targets, {"contact": set()}))
    text = whole_file([contact(), thing], START)
    config = checked(text, (CONTACT, PROFILE), (of, to))
    assert set(config.table("new_thing").fields) == {one.column.name for one in thing.fields if one.sure}
    assert [link.field for link in config.table("new_thing").links] == [o.column.name for o in thing.links if o.sure]
    data = Document(text).data
    assert not list(EDITOR.iter_errors(data))


def test_a_file_for_contacts_alone() -> None:
    text = whole_file([contact()], START)
    lines = text.splitlines()
    assert lines[0] == "# yaml-language-server: $schema=sync_assets.schema.json"
    assert re.search(
        r"^      firstname: firstName +# 100 %, a well-known pair; string\(50\) -> string\(30\); ", text, re.M
    )
    assert "  #   donotemail: blackListEmail" in lines
    assert checked(text, (CONTACT, PROFILE)).opt_out.direction == "disabled"


def test_a_table_with_merged_contacts_gets_the_filter_and_the_opt_out_that_they_need_as_comments() -> None:
    more = (column("statecode", "state", labels={0: "Active"}), column("merged", "boolean"))
    more = (*more, column("masterid", "lookup", targets=("contact",)))
    merging = replace(CONTACT, columns={**CONTACT.columns, **{one.name: one for one in more}})
    written = whole_file([suggest_table(merging, "Contact", PROFILE, MappedTables({"contact": "profile"}, {}))], START)
    assert "active rows only; without it, every row, and both profiles of two contacts that were merged" in written
    assert re.search(r"^  # merged: carry +# an opt-out of a contact that was merged into another one", written, re.M)
    after = parse_config(
        written.replace("# merged", "merged")
        .replace("disabled", "bidirectional")
        .replace("  # mappings", "  mappings")
        .replace("  #   donot", "    donot")
        .replace("# filters", "filters"),
        "f",
    )
    assert (after.opt_out.merged, after.table("contact").filters is not None) == ("carry", True)
    assert "merged" not in whole_file([contact()], START)


def test_an_entry_leaves_out_the_defaults_of_the_file_unless_it_needs_another_value() -> None:
    columns = {**CONTACT.columns, "statecode": column("statecode", "state", labels={0: "Active"})}
    one = suggest_table(replace(CONTACT, columns=columns), "Contact", PROFILE, MappedTables({"contact": "profile"}, {}))
    given = {"api": "customResources", "apply_deletes": True, "apply_updates": False, "picklists": "labels"}
    rules = {"filters": {"rules": [{"field": "statecode", "is": "eq", "value": 0}]}}
    names = ("filters", "apply_deletes", "apply_updates", "picklists")
    block = table_block(one, 2, TableOptions.model_validate(given | rules))
    assert [name for name in names if f"{name}:" in block] == []
    assert "    api: profileAndServicesExt\n" in block
    block = table_block(one, 2)
    assert [name for name in names if f"{name}:" in block] == list(names)
    assert "api:" not in block


def test_keys_under_defaults_take_effect_on_the_tables_that_init_wrote() -> None:
    text = whole_file([contact()], START) + "defaults: {apply_deletes: true, apply_updates: false, picklists: codes}\n"
    one = checked(text, (CONTACT, PROFILE)).table("contact")
    assert (one.apply_deletes, one.apply_updates, one.picklists) == (True, False, "codes")


def test_each_line_that_is_commented_out_counts_once_its_mark_is_taken_away() -> None:
    order = table(
        "new_order",
        column("new_name"),
        column("new_amount", "decimal"),
        column("new_tier", "picklist", labels={1: "Gold", 2: "Lead"}),
        column("statecode", "state", labels={0: "Active"}),
        column("new_contactid", "lookup", targets=("contact", "account")),
    )
    to = resource(
        "cusOrder",
        attribute("cusName"),
        attribute("cusAmount", "integer"),
        attribute("cusTier", "enumeration", values=("none", "gold")),
        attribute("cusContactLink", "link", target="profile"),
    )
    written = whole_file([contact(), suggested(order, to)], START)
    before, after = parse_config(written, "f"), checked(switched_on(written), (CONTACT, PROFILE), (order, to))
    assert set(before.table("new_order").fields) == {"new_name", "new_tier"}
    assert set(after.table("new_order").fields) == {"new_name", "new_tier", "new_amount"}
    assert after.table("new_order").filters is not None
    assert [link.field for link in after.table("new_order").links] == ["new_contactid"]
    assert set(after.opt_out.mappings) == {"donotemail"}


def test_names_that_yaml_reads_as_another_type_are_quoted() -> None:
    odd = table("new_order", column("null"), column("true", "boolean"))
    to = resource("cusOrder", attribute("Null"), attribute("True", "boolean"))
    fields = checked(whole_file([contact(), suggested(odd, to)], START), (odd, to)).table("new_order").fields
    assert {name: field.to for name, field in fields.items()} == {"null": "Null", "true": "True"}
