"""The follower: one run for all tables of an installation, which captures and sends changes as they come."""
