"""Alerts: find incidents, and notify the configured channels of them.

incidents      the state of the Dagster instance to a list of incidents: pure
notifications  the incidents and what a channel was notified of before to new notifications, and their text: pure
channels       webhook and e-mail

The sensor and the reader of the instance's state are in defs/alerts.
"""
