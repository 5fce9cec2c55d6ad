"""Owns alerts: what prices are held against, what was given, and when it may be given again."""
