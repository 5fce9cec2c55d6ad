"""Connections of libraries that look names up themselves: to public addresses only.

Python tells audit hooks of every connection before it is made, with the address that it is made
to; so what a name meant when it was looked up, or where an answer redirects to, changes nothing.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from infra.notify.addresses import is_public
from infra.notify.resolver import AddressRefused

_EVENTS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})


class ConnectionGuard:
    """Refuses connections, and knows the last one that it refused: libraries swallow errors."""

    def __init__(self) -> None:
        self.refused = ""

    def check(self, address: Any) -> None:
        """Raise AddressRefused unless an address is one of the internet's.

        A path is a socket of this machine; a name would be looked up past this check.
        """
        host = str(address[0]) if isinstance(address, tuple) and address else str(address)
        if not isinstance(address, tuple) or not is_public(host):
            self.refused = f"{host} is no public address"
            raise AddressRefused(self.refused)


_current: ContextVar[ConnectionGuard | None] = ContextVar("connection_guard", default=None)


@contextmanager
def guarded() -> Iterator[ConnectionGuard]:
    """Let this context, a thread's, connect to public addresses only."""
    _watch_connections()
    guard = ConnectionGuard()
    token = _current.set(guard)
    try:
        yield guard
    finally:
        _current.reset(token)


@functools.cache
def _watch_connections() -> None:
    sys.addaudithook(_on_event)  # there is no way to take it away again


def _on_event(event: str, args: tuple[Any, ...]) -> None:
    if event in _EVENTS and (guard := _current.get()) is not None and args[1] is not None:
        guard.check(args[1])
