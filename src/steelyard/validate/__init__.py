"""The gates: what a candidate must show before it may carry anything."""
