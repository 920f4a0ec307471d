"""Who may ask what of a server, over which wire, and what is kept of it."""
