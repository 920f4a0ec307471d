"""Conformance suites of the ports, for those who write adapters. They need pytest."""
