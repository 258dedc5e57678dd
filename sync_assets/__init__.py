"""Dynamics 365 contacts and custom entities into Adobe Campaign Standard, as Dagster data assets."""
