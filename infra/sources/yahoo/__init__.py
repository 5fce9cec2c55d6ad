"""The Yahoo source."""
