"""Alerts: find incidents, and notify the configured channels of them.

incidents   incidents of the Dagster instance, and the notifications that a channel gets of them, as text: pure
thresholds  incidents of numbers above a threshold: pure
channels    webhook and e-mail; pings of a monitoring service

The sensor and the reader of the instance's state are in defs/alerts.
"""
