"""The straight-line stories. The only place where stages meet."""
