"""Alerts about the service itself: rules, what they make of readings, and what was told."""
