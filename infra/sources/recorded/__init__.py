"""A stream kept in a file, and a source that plays it."""
