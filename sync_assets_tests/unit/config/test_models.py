"""The configuration file: its keys, values and defaults."""

import pytest

from sync_assets.config.files import SANDBOX_CONFIG
from sync_assets.config.loader import ConfigError, load_config, parse_config
from sync_assets.config.models import Guardrails

HEAD = """\
privacy_acknowledged: true
tables:
  - table: contact
    resource: profile
    key: externalId
    fields: {firstname: firstName}
"""
ORDER = """\
  - table: new_order
    resource: cusOrder
    key: cusOrderId
    fields: {new_name: cusName}
"""
EXAMPLE = """\
privacy_acknowledged: true
tables:
  - table: contact
    resource: profile
    key: externalId
    address: filter
    filter: {name: byExternalId, parameter: externalId_parameter}
    fields:
      firstname: firstName
      birthdate: {to: birthDate, apply_updates: false}
      jobtitle: {to: cusJobTitle, truncate: true}
      gendercode: gender
      address1_city: location.city
    replacements:
      gendercode: {1: male, 2: female, null: unknown}
    filters:
      match: all
      rules:
        - {field: statecode, is: eq, value: 0}
      delete_filtered_out: false
    apply_deletes: true
    picklists: labels
  - table: new_order
    resource: cusOrder
    key: cusOrderId
    api: profileAndServicesExt
    fields: {new_name: cusName, new_amount: cusAmount}
    links:
      - field: new_contactid
        to: cusContactLink
        table: contact
        style: key
        cardinality: one
opt_out:
  direction: bidirectional
  mappings:
    donotemail: blackListEmail
    followemail: {to: blackListPhone, inverted: true}
  poll_profiles_minutes: null
  export: {separator: tab, workflow_id: WKF12, restart_stalled: true}
guardrails:
  max_delete_share: 1
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "f.yaml")
    assert str(caught.value) == "\n".join(caught.value.problems)
    return list(caught.value.problems)


def the_problem(text: str) -> str:
    result = problems(text)
    assert len(result) == 1, result
    return result[0]


def table(more: str, fields: str = "{firstname: firstName}") -> str:
    """A file with one table: its `fields` in line 6, and `more` from line 7 on."""
    body = "".join(f"    {line}\n" for line in more.splitlines())
    return HEAD.replace("{firstname: firstName}", fields) + body


class TestWhatTheFileSays:
    def test_the_defaults_are_those_of_the_contract(self) -> None:
        config = parse_config(HEAD, "f.yaml")
        [contact] = config.tables
        assert (contact.api, contact.address, contact.filter, contact.unique) == (
            "profileAndServicesExt",
            "auto",
            None,
            "auto",
        )
        assert (contact.apply_deletes, contact.picklists, contact.links, contact.filters) == (False, "labels", (), None)
        assert config.opt_out.direction == "disabled"
        assert config.opt_out.poll_profiles_minutes is None
        assert config.opt_out.export.model_dump() == {
            "directory": "d365_loads/exports",
            "pattern": "optout_*.csv*",
            "separator": ",",
            "encoding": "utf-8",
            "settle_seconds": 60,
            "key_column": "externalId",
            "changed_suffix": "LastModified",
            "columns": {},
            "date_format": "xml",
            "after": "keep",
            "keep_days": 15,
            "expected_every_hours": 24,
            "capacity_mb": None,
            "workflow_id": None,
            "restart_stalled": False,
        }
        assert config.guardrails.model_dump() == {
            "max_contacts": 30_000_000,
            "max_custom_entities": 5,
            "max_columns": 50,
            "max_link_depth": 2,
            "calls_per_second": None,
            "engine_calls_per_hour": None,
            "engine_calls_per_day": None,
            "max_delete_share": 0.05,
            "max_emptied_share": 0.05,
            "horizon_minutes": 15.0,
            "concurrency": 64,
        }

    def test_the_sandboxs_file_is_valid_and_names_every_key(self) -> None:
        text = SANDBOX_CONFIG.read_text()
        config = load_config(SANDBOX_CONFIG)
        assert config.guardrails == Guardrails()
        assert config.opt_out.direction == "disabled"

        def keys(model: object) -> set[str]:
            return set(getattr(model, "model_fields", {}))

        parts = [config, config.tables[0], config.opt_out, config.opt_out.export]
        parts += [config.logs, config.guardrails]
        missing = [key for part in parts for key in keys(type(part)) if f"{key}:" not in text]
        assert missing == []

    def test_keys_of_all_tables_stand_once_and_a_table_writes_its_own(self) -> None:
        parts = "x-keys: &keys {api: customResources, picklists: labels}\nx-x: !any {a: 1, a: 2}\n"
        defaults = "defaults: {apply_deletes: true, apply_updates: false, picklists: codes, key: cusOrderId}\n"
        order = ORDER.replace(
            "    key: cusOrderId\n", "    <<: [*keys, {picklists: codes}]\n    apply_deletes: false\n"
        )
        contact, order = parse_config(parts + HEAD + order + defaults, "f.yaml").tables
        assert (contact.key, contact.apply_deletes, contact.picklists) == ("externalId", True, "codes")
        assert (order.key, order.apply_deletes, order.picklists) == ("cusOrderId", False, "labels")
        assert (contact.api, order.api) == ("profileAndServicesExt", "customResources")

    def test_apply_updates_of_a_table_is_the_default_of_its_fields(self) -> None:
        fields = "{a: email, b: {to: phone, apply_updates: true}, c: {to: fax, apply_updates: false}}"
        opt_outs = "opt_out: {direction: d365_to_campaign, mappings: {donotemail: blackListEmail}}\n"
        [contact] = parse_config(table("apply_updates: false", fields) + opt_outs, "f.yaml").tables
        updated = {column for column, field in contact.fields.items() if field.apply_updates}
        assert updated == {"b", "donotemail"}  # an opt-out is never an old one

    def test_values_have_the_type_of_their_spelling(self) -> None:
        text = table("replacements:\n  code: {no: off, 01234: 1_000, 2024-01-01: 1.50, true: false}", "{code: cusCode}")
        assert parse_config(text, "f.yaml").tables[0].replacements["code"] == {
            "no": "off",
            "01234": "1_000",
            "2024-01-01": 1.5,
            True: False,
        }
