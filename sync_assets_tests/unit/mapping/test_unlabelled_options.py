"""Options without a label: the row travels with the number, and somebody hears of it."""

import dataclasses
import json
from typing import Any

import pytest

from sync_assets.config.models import TableConfig
from sync_assets.dataverse.metadata import Column
from sync_assets.mapping.table_mapping import MappingError, TableMapping, compile_mapping
from sync_assets.mapping.unlabelled_options import unknown_codes, unknown_codes_warning
from sync_assets_tests.support.sample_tables import CONTACT, PROFILE, frame, mapping, transformed


class TestCodesOfAPage:
    @pytest.mark.parametrize(
        ("column", "to", "values", "expected"),
        [
            ("gendercode", "cusText", [1, 77, None, 66, 77], [66, 77]),
            ("gendercode", "cusText", [1, 2, 3, None], None),
            ("gendercode", "cusText", [None], None),
            ("gendercode", "gender", [77], [77]),
            ("gendercode", "gender", [3], None),  # it has a label, but no such value: the mapping warns of that itself
            ("gendercode", "cusInteger", [77], None),
            ("interests", "cusText", ["1,9", "9, 77", None, "5"], [5, 77]),
            ("vip", "cusText", [True, False, None], None),
            ("lastname", "cusText", ["77"], None),
        ],
    )
    def test_codes(self, column: str, to: str, values: list[Any], expected: list[int] | None) -> None:
        done = mapping({column: to})
        rows = frame(done, *({column: value} for value in values))
        assert unknown_codes(rows, done) == ({column: expected} if expected else {})

    def test_with_codes_no_label_is_read_unless_an_enumeration_needs_it(self) -> None:
        row = {"gendercode": 77, "interests": "77"}
        texts = mapping({"gendercode": "cusText", "interests": "cusNote"}, picklists="codes")
        assert unknown_codes(frame(texts, row), texts) == {}
        enumeration = mapping({"gendercode": "gender"}, picklists="codes")
        assert unknown_codes(frame(enumeration, row), enumeration) == {"gendercode": [77]}


class TestAnOptionWithoutALabel:
    TABLE = dataclasses.replace(
        CONTACT,
        columns=CONTACT.columns
        | {
            "gendercode": Column("gendercode", "picklist", labels={1: "Male", 5: ""}),
            "interests": Column("interests", "multiselect", labels={1: "Music", 5: ""}),
        },
    )

    def mapping(self, **more: Any) -> TableMapping:
        fields = {"gendercode": "cusText", "interests": "cusNote"}
        given = {"table": "contact", "resource": "profile", "key": "externalId", "fields": fields, **more}
        return compile_mapping(TableConfig.model_validate(given), self.TABLE, PROFILE)

    def test_is_sent_as_its_number_and_reported(self) -> None:
        done = self.mapping()
        row = {"gendercode": 5, "interests": "1,5"}
        [sent] = transformed(done, row)
        assert json.loads(sent["payload"]) == {"cusNote": "Music; 5", "cusText": "5", "externalId": sent["id"]}
        assert unknown_codes(frame(done, row), done) == {"gendercode": [5], "interests": [5]}

    def test_is_silent_once_it_is_replaced_by_its_number(self) -> None:
        done = self.mapping(replacements={"gendercode": {5: "Other"}, "interests": {5: "Other"}})
        row = {"gendercode": 5, "interests": "1,5"}
        [sent] = transformed(done, row)
        assert json.loads(sent["payload"]) == {"cusNote": "Music; Other", "cusText": "Other", "externalId": sent["id"]}
        assert unknown_codes(frame(done, row), done) == {}

    def test_is_listed_as_a_number_among_the_others(self) -> None:
        with pytest.raises(MappingError, match=r"`Old` is no option of `gendercode`; write one of 1 \(Male\), 5$"):
            self.mapping(replacements={"gendercode": {"Old": "Other"}})

    def test_an_enumeration_has_no_value_for_it(self) -> None:
        done = self.mapping(fields={"gendercode": "gender"})
        assert done.warnings == (
            "`gendercode`: `gender` has no value for 5; rows with them will be rejected, add replacements",
        )


class TestARemovedOption:
    """Rows still hold its number, which Dynamics 365 does not list any more."""

    def test_is_replaced_by_its_number_and_warned_of(self) -> None:
        fields = {"gendercode": "gender", "interests": "cusNote"}
        done = mapping(fields, replacements={"gendercode": {3: "male", 7: "unknown"}, "interests": {"8": "Old"}})
        row = {"gendercode": 7, "interests": "1,8"}
        [sent] = transformed(done, row)
        assert json.loads(sent["payload"]) == {"cusNote": "Music; Old", "gender": "unknown", "externalId": sent["id"]}
        assert sent["validation_error"] is None
        assert unknown_codes(frame(done, row), done) == {}
        assert [text for text in done.warnings if "replacements" in text] == [
            "`interests`: 8 in its replacements is no option; only rows that hold one that was removed get it",
            "`gendercode`: 7 in its replacements is no option; only rows that hold one that was removed get it",
        ]


class TestWarning:
    def test_names_columns_numbers_and_the_remedy(self) -> None:
        assert unknown_codes_warning("contact", {"new_tier": {9, 100}, "interests": [7], "gendercode": []}) == (
            "contact: rows hold options without a label in Dynamics 365: `interests` 7; `new_tier` 9, 100. A text "
            "attribute gets the number, an enumeration refuses the row. Give the options a label there, add those that "
            "were removed, and publish, or name their numbers under `replacements`."
        )

    def test_does_not_grow_without_end(self) -> None:
        message = unknown_codes_warning("contact", {"new_tier": range(1, 1001)})
        assert message is not None
        assert "11, 12 and 988 more." in message

    def test_is_nothing_if_there_is_nothing(self) -> None:
        assert unknown_codes_warning("contact", {}) is None
