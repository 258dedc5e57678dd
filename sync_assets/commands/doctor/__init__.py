"""`doctor`: one line for each check of the set-up. `diagnosis` runs them all: start reading there."""
