"""Servers that stand in for others, with real sockets."""
