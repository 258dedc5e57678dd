"""Our own servers: which runs and calls they accept, and how they are started."""
