"""The processes that run tasks, one attempt at a time."""
