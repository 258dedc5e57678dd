"""What a process reads of its installation: environment variables, the configuration file, and names in Dagster."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sync_assets.config.environment import Settings
from sync_assets.config.installation import Installation
from sync_assets.config.loader import load_config

if TYPE_CHECKING:
    from sync_assets.config.models import Config
    from sync_assets.ledger.storage.payload_cipher import PayloadCipher


@dataclass(frozen=True, eq=False)
class Configuration:
    """Environment variables and the configuration file, each read on first use.

    So definitions load without variables, and a missing one is reported by the run that needs it.
    installation: names of its objects in Dagster. file: read in place of the file that the environment names.
    """

    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    installation: Installation = field(default_factory=Installation)
    file: Path | None = None

    @cached_property
    def settings(self) -> Settings:
        return Settings.from_environment(self.environment, self.installation)

    @cached_property
    def config(self) -> Config:
        return load_config(self.file or self.settings.configuration())

    @cached_property
    def cipher(self) -> PayloadCipher:
        """Encrypts the ledger's payloads; without a configured key they are stored as they are."""
        from sync_assets.ledger.storage.payload_cipher import PayloadCipher  # SQLAlchemy  # noqa: PLC0415

        return PayloadCipher(self.settings.ledger_keys)
