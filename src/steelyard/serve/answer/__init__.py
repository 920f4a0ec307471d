"""What answers: a verified version, its endpoint, and the batches of rows asked together."""
