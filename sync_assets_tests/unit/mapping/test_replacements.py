"""Replacements: a value of D365 becomes another one in Campaign, before any conversion."""

import json
from typing import Any

import pytest

from sync_assets.mapping.table_mapping import MappingError
from sync_assets_tests.support.sample_tables import mapping, transformed


def written(column: str, to: str, replacements: dict[Any, Any], *values: Any, **more: Any) -> list[Any]:
    """What the values of `column` are in Campaign, or why they are refused."""
    done = mapping({column: to}, replacements={column: replacements}, **more)
    rows = transformed(done, *({column: value} for value in values))
    return [row["validation_error"] or json.loads(row["payload"])[to] for row in rows]


class TestValues:
    def test_choices_by_number_or_label_and_null(self) -> None:
        replaced = {1: "male", "female": "female", 3: "unknown", None: "unknown"}
        assert written("gendercode", "gender", replaced, 1, 2, 3, None) == ["male", "female", "unknown", "unknown"]

    def test_null_means_the_empty_value(self) -> None:
        assert written("gendercode", "cusText", {3: None}, 3) == [""]
        assert written("score", "cusInteger", {-1: None}, -1) == [0]

    def test_booleans(self) -> None:
        assert written("vip", "cusText", {True: "VIP", False: "-"}, True, False, None) == ["VIP", "-", ""]
        assert written("vip", "cusBoolean", {None: True}, True, False, None) == [True, False, True]
        assert written("vip", "cusText", {"yes": "VIP"}, True, False) == ["VIP", "No"]

    def test_texts_without_regard_to_case(self) -> None:
        assert written("lastname", "cusText", {"N/A": ""}, "n/a", "N/A", "n/a.") == ["", "", "n/a."]
        assert written("lastname", "gender", {"Frau": "female"}, "frau", "MALE") == ["female", "male"]

    def test_numbers_by_value(self) -> None:
        assert written("score", "cusText", {0: "none", 10: "ten"}, 0, 10, 5) == ["none", "ten", "5"]
        assert written("limit", "cusFloat", {0: 1.5, "12.50": 13}, "0.0000", "12.5000", "7.0") == [1.5, 13, 7]

    def test_a_number_with_a_plus_is_that_number(self) -> None:
        assert written("gendercode", "cusInteger", {1: "+5"}, 1) == [5]
        assert written("score", "cusText", {"+10": "ten"}, 10) == ["ten"]

    def test_dates_and_times(self) -> None:
        assert written("birthdate", "cusDate", {"1900-01-01": None}, "1900-01-01", "1900-01-02") == ["", "1900-01-02"]
        times = {"2024-01-01T01:00:00+01:00": "2024-02-01"}
        assert written("visit", "cusTime", times, "2024-01-01T00:00:00Z") == ["2024-02-01 00:00:00.000Z"]

    def test_several_choices_one_by_one(self) -> None:
        assert written("interests", "cusText", {1: "Tunes", None: "nothing"}, "1,9", "2", None) == [
            "Tunes; Other",
            "Travel",
            "nothing",
        ]
        assert written("interests", "cusText", {"Music": "M"}, "1,9", picklists="codes") == ["M,9"]

    def test_an_empty_text_leaves_a_choice_out(self) -> None:
        assert written("interests", "cusText", {2: None, 9: ""}, "1,2,9", "2", "2,1") == ["Music", "", "Music"]

    def test_an_empty_choice_of_several_becomes_the_empty_value(self) -> None:
        several = "gender: a value without replacement; add one"
        replaced = {"Music": "male", 2: "female"}
        assert written("interests", "gender", replaced, "1", "2", None, "1,2") == ["male", "female", "unknown", several]
        assert written("interests", "cusBoolean", {1: True, None: True}, "1", None) == [True, True]

    def test_they_make_types_fit_that_do_not(self) -> None:
        replaced = {"y": True, "n": False}
        result = "cusBoolean: a value without replacement; add one"
        assert written("lastname", "cusBoolean", replaced, "y", "N", None, "x") == [True, False, False, result]
        assert written("gendercode", "cusBoolean", {3: True}, 3, None, 1) == [True, False, result]


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("column", "to", "replacements", "message"),
        [
            ("gendercode", "gender", {"Man": "male"}, "`Man` is no option of `gendercode`; write one of 1 (Male)"),
            ("gendercode", "gender", {2**63: "male"}, "`9223372036854775808` is no option of `gendercode`"),
            ("gendercode", "gender", {1: "mal"}, "`mal` is no value of `gender`; did you mean `male`?"),
            ("gendercode", "gender", {1: "x"}, "`x` is no value of `gender`; write one of unknown, male, female"),
            ("gendercode", "gender", {1: "male", "Male": "female"}, "`Male` is a value that another replacement names"),
            ("lastname", "gender", {"A": "male", "a": "female"}, "`a` is a value that another replacement names"),
            ("score", "cusInteger", {1: "one"}, "`cusInteger` is a whole number and cannot be `one`"),
            ("score", "cusInteger", {1: 1.5}, "`cusInteger` is a whole number and cannot be `1.5`"),
            ("score", "cusFloat", {1: "one"}, "`cusFloat` is a number and cannot be `one`; write one as in 12.50"),
            (
                "vip",
                "cusBoolean",
                {None: "maybe"},
                "`cusBoolean` is a boolean and cannot be `maybe`; write true or false",
            ),
            ("lastname", "cusText", {1.5: "x"}, "`1.5` is no text; put it in quotes"),
            ("gendercode", "cusText", {1: 1.1}, "`cusText` is a text and cannot be `1.1`; put it in quotes"),
            ("score", "cusText", {2**63: "many"}, "`9223372036854775808` is beyond what a column holds"),
            ("gendercode", "cusInteger", {1: 2**63}, "`cusInteger` cannot be `9223372036854775808`; write at most 64"),
            ("lastname", "firstName", {"x": "far too long"}, "`firstName` takes at most 10 characters; shorten"),
            ("birthdate", "cusDate", {"2000-01-01": "never"}, "`never` is no time; write it as YYYY-MM-DD"),
        ],
    )
    def test_message(self, column: str, to: str, replacements: dict[Any, Any], message: str) -> None:
        with pytest.raises(MappingError) as caught:
            mapping({column: to}, replacements={column: replacements})
        [problem] = caught.value.problems
        assert problem.startswith(f"replacements of `{column}`: ")
        assert message in problem
