"""Owns the service's health: readings, alerts about it, tuning, optimisation rules, A/B tests."""
