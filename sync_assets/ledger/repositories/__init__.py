"""Repositories of all but records: opt-outs, runs, maintenance, call limits, reports."""
