"""A local Adobe Campaign Standard: records, metadata and workflows of its REST API, dialect and traps included."""

from sync_assets.sandbox.campaign.engine import Campaign
from sync_assets.sandbox.campaign.gateway import KINDS, refuse
from sync_assets.sandbox.campaign.subject import key_of
from sync_assets.sandbox.campaign.web import app

__all__ = ["KINDS", "Campaign", "app", "key_of", "refuse"]
