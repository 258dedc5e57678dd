"""Emulator of Adobe Campaign Standard: records, metadata and workflows of its REST API, with its dialect and traps.

web                  the ASGI app; start reading here
gateway              Adobe's gateway in front of the instance
engine               state of the instance, and changes of records
store, schema, resources   records in memory, and the data model
view, values, lists, metadata   records, values, lists and metadata as the API shows them
workflows, export    workflows, and the opt-out file that one of them writes
imports              workflows that import files of the SFTP
settings, admin      options of the emulator, and their admin routes
tokens, subject, errors   PKeys, keys for the journal, error texts
"""

from sync_assets.sandbox.campaign.engine import Campaign
from sync_assets.sandbox.campaign.gateway import KINDS, refuse
from sync_assets.sandbox.campaign.imports.import_workflows import Imports
from sync_assets.sandbox.campaign.subject import key_of
from sync_assets.sandbox.campaign.web import app

__all__ = ["KINDS", "Campaign", "Imports", "app", "key_of", "refuse"]
