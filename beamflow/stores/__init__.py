"""Where the log is kept: the port, and the stores behind it, which know nothing of each other."""
