"""Owns symbol fetching: the source, its quotes and histories, the monitored set."""
