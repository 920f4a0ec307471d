"""The artifact: compile, write, verify, predict."""
