"""The mapping: what is read, what stands against it, and when rows have to be read again."""

import dataclasses
from typing import Any

import pytest

from sync_assets.campaign.metadata import Attribute
from sync_assets.config.models import TableConfig
from sync_assets.config.opt_out import OptOutMapping
from sync_assets.dataverse.metadata import Column
from sync_assets.mapping.table_mapping import MappingError, OptOutField, TableMapping, compile_mapping
from sync_assets_tests.support.sample_tables import CONTACT, PROFILE, mapping


def refused(fields: dict[str, Any], **more: Any) -> MappingError:
    with pytest.raises(MappingError) as caught:
        mapping(fields, **more)
    return caught.value


def carrying(fields: dict[str, Any] | None = None, **opt_outs: OptOutMapping) -> TableMapping:
    """A mapping whose rows bring opt-outs beside the payload."""
    given = {"table": "contact", "resource": "profile", "key": "externalId", "fields": fields or {"lastname": "title"}}
    return compile_mapping(TableConfig.model_validate(given), CONTACT, PROFILE, carried=opt_outs)


def opt_out(to: str, *, inverted: bool = False) -> OptOutMapping:
    return OptOutMapping.model_validate({"to": to, "inverted": inverted})


class TestWhatIsRead:
    def test_the_key_the_time_and_the_mapped_columns_sorted(self) -> None:
        assert mapping({"lastname": "cusText", "companyid": "cusNote"}).select == (
            "_companyid_value",
            "contactid",
            "lastname",
            "modifiedon",
        )

    def test_columns_of_filters_and_links_too_but_no_others(self) -> None:
        done = mapping(
            {"lastname": "cusText"},
            filters={"rules": [{"field": "statecode", "is": "eq", "value": 0}]},
            links=[{"field": "companyid", "to": "cusContactLink", "table": "account"}],
        )
        assert done.select == ("_companyid_value", "contactid", "lastname", "modifiedon", "statecode")
        assert done.column_types["_companyid_value"] == "lookup"

    def test_columns_of_opt_outs_are_read_and_are_no_fields(self) -> None:
        done = carrying(vip=opt_out("blackListEmail"), score=opt_out("blackListPhone", inverted=True))
        assert done.select == ("contactid", "lastname", "modifiedon", "score", "vip")
        assert (done.column_types["vip"], done.column_types["score"]) == ("boolean", "integer")
        assert done.opt_outs == (
            OptOutField(CONTACT.columns["vip"], "blackListEmail", inverted=False),
            OptOutField(CONTACT.columns["score"], "blackListPhone", inverted=True),
        )
        assert [field.attribute.path for field in done.fields] == ["title"]


class TestWhatStandsAgainstIt:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"firstnam": "cusText"}, "`firstnam`: contact has no such column; did you mean `firstname`?"),
            ({"zzzzzzz": "cusText"}, "`zzzzzzz`: contact has no such column; name a column of the table"),
            ({"secret": "cusText"}, "`secret`: Dynamics 365 does not let anybody read this column; leave it out"),
        ],
    )
    def test_columns(self, fields: dict[str, Any], message: str) -> None:
        error = refused(fields)
        assert error.d365 == (message,)
        assert error.campaign == ()
        assert str(error) == f"contact: {message}"

    def test_columns_of_opt_outs(self) -> None:
        with pytest.raises(MappingError) as caught:
            carrying(vp=opt_out("blackListEmail"), secret=opt_out("blackListPhone"))
        assert caught.value.d365 == (
            "opt-out `vp`: contact has no such column; did you mean `vip`?",
            "opt-out `secret`: Dynamics 365 does not let anybody read this column; leave it out",
        )

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            (
                {"firstname": "firstname"},
                "`firstname`: profile has no attribute `firstname`; did you mean `firstName`?",
            ),
            (
                {"firstname": "zzzzzzz"},
                "`firstname`: profile has no attribute `zzzzzzz`; name an attribute, or add it in Campaign and publish",
            ),
            ({"score": "age"}, "`score`: `age` is read-only in Campaign; map it to another attribute"),
            ({"companyid": "orgUnit"}, "`companyid`: `orgUnit` of profile is a link; use `links` for lookups"),
            (
                {"lastname": "subscriptions"},
                "`lastname`: `subscriptions` of profile is a collection; map another attribute",
            ),
            (
                {"lastname": "location"},
                "`lastname`: `location` holds sub-fields; map one of them, location.city, location.height",
            ),
            (
                {"vip": "cusDate"},
                "`vip` (boolean) cannot become `cusDate` (date); map it to one of type boolean, enumeration, float, "
                "integer, string, or write `replacements` for its values",
            ),
            (
                {"gendercode": "cusBoolean"},
                "`gendercode` (picklist) cannot become `cusBoolean` (boolean); map it to one of type boolean, "
                "enumeration, float, integer, string, or write `replacements` for its values",
            ),
            (
                {"vip": {"to": "cusBoolean", "truncate": True}},
                "`vip`: only texts can be cut, and `cusBoolean` is none; remove `truncate`",
            ),
        ],
    )
    def test_attributes(self, fields: dict[str, Any], message: str) -> None:
        error = refused(fields)
        assert error.campaign == (message,)
        assert error.d365 == ()

    def test_the_key(self) -> None:
        result = "cannot hold an id; name a text attribute of at least 36 characters"
        assert result in str(refused({"lastname": "cusText"}, key="firstName"))
        assert result in str(refused({"lastname": "cusText"}, key="cusInteger"))
        assert "did you mean `externalId`?" in str(refused({"lastname": "cusText"}, key="externlId"))
        assert "read-only" in str(refused({"lastname": "cusText"}, key="age"))

    def test_links(self) -> None:
        link = {"table": "account", "field": "companyid", "to": "cusContactLink"}
        assert mapping({"lastname": "cusText"}, links=[link]).links[0].column.name == "companyid"
        wrong = [
            ({"to": "cusText"}, "is no link; write `style: join` or name a link"),
            ({"style": "join"}, "is no text; leave `style` out or name a text"),
            ({"field": "lastname"}, "the column is of type string; name a lookup column"),
            ({"field": "compnyid"}, "did you mean `companyid`?"),
        ]
        for change, result in wrong:
            assert result in str(refused({"lastname": "cusText"}, links=[link | change]))

    def test_a_table_without_the_time_of_its_last_change(self) -> None:
        table = dataclasses.replace(CONTACT, columns={k: v for k, v in CONTACT.columns.items() if k != "modifiedon"})
        given = {"table": "contact", "resource": "profile", "key": "externalId", "fields": {"lastname": "cusText"}}
        with pytest.raises(MappingError, match="`modifiedon`: contact has no such column"):
            compile_mapping(TableConfig.model_validate(given), table, PROFILE)

    def test_everything_at_once(self) -> None:
        error = refused({"firstnam": "firstName", "score": "age", "vip": "cusDate"}, key="nokey")
        assert len(error.problems) == len(str(error).splitlines()) == 4


class TestWarnings:
    def test_types_that_travel_as_text(self) -> None:
        assert mapping({"companyid": "cusText", "image": "cusNote", "lastname": "title"}).warnings == (
            "`image` (other) is sent to `cusNote` as text",
            "`companyid` (lookup) is sent to `cusText` as text",
        )

    def test_a_column_that_dynamics_may_show_as_empty(self) -> None:
        columns = {**CONTACT.columns, "lastname": dataclasses.replace(CONTACT.columns["lastname"], secured=True)}
        table, config = dataclasses.replace(CONTACT, columns=columns), {"fields": {"lastname": "cusText"}}
        named = TableConfig.model_validate({"table": "contact", "resource": "profile", "key": "externalId", **config})
        [warning] = compile_mapping(named, table, PROFILE).warnings
        assert warning.startswith("`lastname` is secured: without a column security profile")

    def test_rows_that_may_be_refused(self) -> None:
        assert mapping({"balance": "cusInteger"}).warnings == (
            "`balance`: `cusInteger` takes whole numbers only; rows with a fraction will be rejected",
        )
        assert mapping({"gendercode": "gender"}).warnings == (
            "`gendercode`: `gender` has no value for 3 (Diverse); rows with them will be rejected, add replacements",
        )
        assert mapping({"gendercode": "gender"}, replacements={"gendercode": {3: "unknown"}}).warnings == ()


class TestFingerprint:
    FIELDS: dict[str, Any] = {"lastname": "cusText", "gendercode": "gender", "interests": "cusNote"}  # noqa: RUF012

    def test_is_short_and_stable(self) -> None:
        first = mapping(self.FIELDS).fingerprint
        assert first == mapping(self.FIELDS).fingerprint
        assert len(first) == 16

    def test_the_order_of_the_file_does_not_matter(self) -> None:
        assert mapping(self.FIELDS).fingerprint == mapping(dict(reversed(self.FIELDS.items()))).fingerprint

    def test_a_setting_that_changes_no_payload_keeps_the_fingerprint(self) -> None:
        assert mapping(self.FIELDS).fingerprint == mapping(self.FIELDS, apply_deletes=True).fingerprint

    @pytest.mark.parametrize(
        "change",
        [
            {"fields": {**FIELDS, "score": "cusInteger"}},
            {"fields": {**FIELDS, "lastname": "title"}},
            {"fields": {**FIELDS, "lastname": {"to": "cusText", "apply_updates": False}}},
            {"fields": {**FIELDS, "lastname": {"to": "cusText", "truncate": True}}},
            {"fields": {**FIELDS, "lastname": {"to": "cusText", "keep_if_empty": True}}},
            {"apply_updates": False},
            {"picklists": "codes"},
            {"replacements": {"gendercode": {3: "unknown"}}},
            {"filters": {"rules": [{"field": "statecode", "is": "eq", "value": 0}]}},
            {"filters": {"rules": [{"field": "statecode", "is": "eq", "value": 1}]}},
            {"links": [{"field": "companyid", "to": "cusContactLink", "table": "account"}]},
        ],
    )
    def test_a_setting_that_changes_payloads_changes_the_fingerprint(self, change: dict[str, Any]) -> None:
        given = {"fields": self.FIELDS, **change}
        assert mapping(**given).fingerprint != mapping(self.FIELDS).fingerprint

    def test_opt_outs_matter_as_rows_have_to_be_read_again_for_them(self) -> None:
        """A contact that has not changed since would else never say that it is opted out."""
        fields = {"vip": "cusBoolean", "statecode": "cusText"}  # columns that are read in any case
        result = {
            carrying(fields).fingerprint,
            carrying(fields, vip=opt_out("blackListEmail")).fingerprint,
            carrying(fields, vip=opt_out("blackListPhone")).fingerprint,
            carrying(fields, vip=opt_out("blackListEmail", inverted=True)).fingerprint,
            carrying(fields, statecode=opt_out("blackListEmail")).fingerprint,
            carrying(fields, vip=opt_out("blackListEmail"), statecode=opt_out("blackListPhone")).fingerprint,
        }
        assert len(result) == 6
        assert carrying(fields).fingerprint == mapping(fields).fingerprint

    def test_metadata_matters_as_far_as_payloads_depend_on_it(self) -> None:
        given = {"table": "contact", "resource": "profile", "key": "externalId", "fields": self.FIELDS}
        config = TableConfig.model_validate(given)
        same = mapping(self.FIELDS).fingerprint

        def of(column: Column | None = None, attribute: Attribute | None = None) -> str:
            columns = CONTACT.columns | ({column.name: column} if column else {})
            attributes = PROFILE.attributes | ({attribute.path: attribute} if attribute else {})
            table = dataclasses.replace(CONTACT, columns=columns)
            resource = dataclasses.replace(PROFILE, attributes=attributes)
            return compile_mapping(config, table, resource).fingerprint

        assert of(Column("score", "string")) == same
        assert of(Column("lastname", "string", label="Surname")) == same
        assert of(Column("interests", "multiselect", labels={1: "Art"})) != same
        assert of(attribute=Attribute("cusText", "string", 100)) != same
        assert of(attribute=Attribute("gender", "enumeration", values=("none", "male", "female"))) != same
        assert of(attribute=Attribute("age", "integer")) == same
