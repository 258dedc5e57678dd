"""Alerts: what is wrong now, and who is to be told of it.

looking    asks the Dagster instance: failed runs and sensors, the latest answers of checks, freshness
troubles   from that, what is wrong: pure
telling    from that and what was told before, what to tell: pure
wording    a notice as text
senders    webhook and e-mail
sensor     all of it every half a minute; what was told is its cursor
"""
