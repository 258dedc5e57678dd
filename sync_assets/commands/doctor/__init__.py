"""`doctor`: one line for each question about the set-up. `diagnosis` asks them all: start reading there."""
