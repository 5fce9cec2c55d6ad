"""Finstage from another Python program: over HTTP, without Ray."""
