"""A table goes into a file that people have written, and every other byte stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.config.loader import parse_config
from sync_assets.errors import SyncAssetsError
from sync_assets.scaffold.yaml_text import insert_table

ENTRY = ("# Order", "- table: new_order", "  resource: cusOrder", "  key: cusOrderId", "  fields: {new_name: cusName}")
CONTACT = "- {table: contact, resource: profile, key: externalId, fields: {firstname: firstName}}\n"


def block(indent: int) -> str:
    return "".join(f"{' ' * indent}{line}\n" for line in ENTRY)


def added(text: str) -> tuple[str, str]:
    """What stands before and behind the new entry, whose lines and own gap are cut out."""
    whole = insert_table(text, block)
    assert [table.table for table in parse_config(whole, "f").tables][-1] == "new_order"
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = whole.split(newline)
    first = next(n for n, line in enumerate(lines) if line.strip() == ENTRY[0])
    return newline.join(lines[:first]), newline.join(lines[first + len(ENTRY) :])


def file(tables: str, after: str = "", before: str = "privacy_acknowledged: true\n") -> str:
    return f"{before}tables:\n{tables}{after}"


HEAD = "- table: contact\n  resource: profile\n  key: externalId\n"
BODIES = st.sampled_from(
    [
        CONTACT,
        f"{HEAD}  fields:\n    firstname: firstName   # a\n",
        "-\n" + HEAD.replace("- ", "  ") + "  fields:\n    firstname: {to: firstName,\n      truncate: true}\n",
        "- table: contact\n  resource: profile\n  fields: {firstname: firstName}\n  key: |-\n    externalId\n",
        f"{HEAD}  fields: {{firstname: firstName}}\n  filter:\n",
        f"{HEAD}  fields:\n    firstname: firstName\n    # fax: fax\n\n    # x\n",
    ]
)
AFTER = st.sampled_from(
    ["", "\n", "\n# next\nopt_out: {direction: disabled}\n", "opt_out:\n  direction: disabled", "# end"]
)
FIRST = st.sampled_from(["", "# ä 😀\n", "guardrails: {max_columns: 9}\n"])


@given(BODIES, AFTER, FIRST, st.integers(0, 4), st.booleans(), st.booleans())
def test_existing_text_stays_byte_for_byte(
    body: str, after: str, first: str, indent: int, windows: bool, bare: bool
) -> None:
    indented = "".join(" " * indent + line if line.strip() else line for line in body.splitlines(keepends=True))
    text = file(indented, after, f"{first}privacy_acknowledged: true\n")
    text = text.removesuffix("\n") if bare else text
    text = text.replace("\n", "\r\n") if windows else text
    before, behind = added(text)
    line_end = "\r\n" if windows else "\n"
    assert (before + behind).replace(line_end, "") == text.replace(line_end, "")
    assert text.startswith(before.rstrip())
    assert text.endswith(behind)
    if windows:
        assert "\n" not in insert_table(text, block).replace("\r\n", "")


def test_comments_of_the_entry_before_stay_with_it_and_those_of_what_follows_too() -> None:
    tables = "  - table: contact\n    resource: profile\n    key: externalId\n    fields:\n      firstname: firstName\n"
    before, behind = added(
        file(f"{tables}      # fax: fax\n\n    # filters: {{}}\n", "\n  # another\n# Opt-outs\nopt_out: {}\n")
    )
    assert before.endswith("      # fax: fax\n\n    # filters: {}\n")
    assert behind == "\n  # another\n# Opt-outs\nopt_out: {}\n"


def test_the_indentation_of_the_list_is_kept() -> None:
    assert f"\n{block(0)}" in insert_table(file(CONTACT), block)
    assert f"\n{block(4)}" in insert_table(file(f"    {CONTACT}"), block)


@pytest.mark.parametrize(
    "text",
    [
        f"privacy_acknowledged: true\ntables: [{CONTACT[2:].strip()}]\n",
        f"{{privacy_acknowledged: true, tables: [{CONTACT[2:].strip()}]}}\n",
    ],
)
def test_a_list_in_brackets_is_left_alone(text: str) -> None:
    with pytest.raises(SyncAssetsError, match="begin with `- `"):
        insert_table(text, block)


def test_an_entry_that_stands_elsewhere_is_left_alone() -> None:
    text = "opt_out: &x {direction: disabled}\ntables:\n- *x\nprivacy_acknowledged: true\n"
    with pytest.raises(SyncAssetsError, match="by hand"):
        insert_table(text, block)
