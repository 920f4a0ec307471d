"""One folder a system; each file bears the name of the port that it implements."""
