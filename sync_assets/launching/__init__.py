"""What decides which runs and calls are accepted: the run coordinator, the code server's guard."""
