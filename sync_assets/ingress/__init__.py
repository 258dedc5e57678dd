"""D365 -> Campaign: transform (pure), capture, push, and the Dagster objects around them."""
