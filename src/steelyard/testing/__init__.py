"""Conformance suites: of the ports, for those who write adapters (they need pytest), and of the wire contracts."""
