"""Model of the part `logs` of the configuration file: daily log files on the Campaign SFTP."""

from __future__ import annotations

from pydantic import field_validator

from sync_assets.config.opt_out import sftp_folder
from sync_assets.config.values import Days, Model, Text, refused


class Logs(Model):
    """Log export."""

    export: bool = False
    """true: a file of JSON lines a day, with counts and rejected records by id and reason."""
    folder: Text = "d365_loads/logs"
    """As seen after sign-in, or from the root. Made if it is not there."""
    keep_days: Days = 30
    """Older files are removed."""

    @field_validator("folder")
    @classmethod
    def _one_place(cls, value: str) -> str:
        if value != value.strip():
            raise refused(f"`{value}` begins or ends with a blank", f"write `{value.strip()}`")
        return sftp_folder(value, "folder: d365_loads/logs")
