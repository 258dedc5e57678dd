"""The layout of an export file, from the configuration."""

from sync_assets.config.loader import parse_config
from sync_assets.opt_out.export.file import Layout
from sync_assets.opt_out.export.staging import layout
from sync_assets_tests.unit.config.test_models import HEAD


def test_every_setting_of_the_export_gets_to_the_reader() -> None:
    export = (
        "{key_column: Id, changed_suffix: _at, separator: tab, encoding: latin-1, date_format: ddmmyyyy, "
        "columns: {denyListEmail: No email}}"
    )
    opt_out = f"opt_out:\n  mappings: {{donotemail: blackListEmail}}\n  export: {export}\n"
    assert layout(parse_config(HEAD + opt_out, "f.yaml")) == Layout(
        "Id", ("blackListEmail",), "_at", "\t", "latin-1", "ddmmyyyy", {"No email": "blackListEmail"}
    )
