"""Alerts: find incidents, and notify the configured channels of them.

incidents   open conditions, and what a channel is notified of, as text; pure; start reading here
thresholds  incidents of numbers above a threshold: pure
channels    webhook and e-mail; pings of a monitoring service

The sensor and the reader of the instance's state are in defs/alerts.
"""
