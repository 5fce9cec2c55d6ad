"""The outside world: settings, clock, errors, logs, metrics, sources and store.

Imports nothing of the rest of the project.
"""
