"""Addresses on the network."""

from __future__ import annotations

import socket


def listens(address: str, within_s: float = 5.0) -> bool:
    """Return whether somebody takes TCP connections at `host:port`; False for no such text."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), within_s).close()
    except (OSError, ValueError):
        return False
    return True
