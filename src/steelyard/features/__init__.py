"""What must be the same offline and online: columns and row features."""
