"""Serving: a framework-free core from bytes to bytes, and a thin front over HTTP."""
