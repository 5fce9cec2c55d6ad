"""Connections of libraries that look names up themselves: to public addresses and the proxy.

Python tells audit hooks of every connection before it is made, with the address that it is made
to; so what a name meant when it was looked up, or where an answer redirects to, changes nothing.
"""

from __future__ import annotations

import functools
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from infra.notify.addresses import is_public
from infra.notify.resolver import AddressRefused

_PROXIED = ("http", "https", "all")  # whose proxies libraries use
_PORTS = {"http": 80, "https": 443}
_SOCKS_PORT = 1080
_EVENTS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})


class ConnectionGuard:
    """Refuses connections, and knows the last one that it refused: libraries swallow errors."""

    def __init__(self) -> None:
        self.refused = ""

    def check(self, address: Any) -> None:
        """Raise AddressRefused unless an address is one of the internet's, or of a proxy.

        A path is a socket of this machine; a name would be looked up past this check. The proxies
        are those that the environment of this process names, whatever their names mean now.
        """
        host = str(address[0]) if isinstance(address, tuple) and address else str(address)
        if isinstance(address, tuple) and (is_public(host) or address[:2] in _proxies()):
            return
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


def _proxies() -> set[tuple[Any, ...]]:
    """Return addresses and ports of the proxies that the environment names."""
    urls = getproxies()
    return {address for kind in _PROXIED if kind in urls for address in _meant_by(urls[kind])}


def _meant_by(url: str) -> Iterator[tuple[Any, ...]]:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or _PORTS.get(parts.scheme, _SOCKS_PORT)
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (ValueError, OSError):
        return  # none that anybody could connect to
    yield from (address[:2] for *_, address in found)


@functools.cache
def _watch_connections() -> None:
    sys.addaudithook(_on_event)  # there is no way to take it away again


def _on_event(event: str, args: tuple[Any, ...]) -> None:
    if event in _EVENTS and (guard := _current.get()) is not None and args[1] is not None:
        guard.check(args[1])
