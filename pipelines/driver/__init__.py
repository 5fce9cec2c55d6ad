"""Finstage from a Python process: joined to its Ray, or (serve.client) over HTTP."""
