"""Owns the shared level of the caches, and sums what all processes count."""
