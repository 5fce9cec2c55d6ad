"""Who may: the host that a request names, the page it comes from, the key it carries.

Any web page can reach a service on loopback, so `Host` must be one of ours (against DNS
rebinding) and a handshake or a changing request with an `Origin` must come from our own pages
or a listed one. Behind HAProxy every client looks like 127.0.0.1: no address is ever trusted.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from urllib.parse import parse_qs

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.types import Scope

from infra.errors import KeyRequired, OriginRefused, RateLimited
from infra.settings import Settings
from serve.edge.scope import KEY_NAME

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_READING_POSTS = frozenset(
    {
        "/api/v2/technical-analysis/batch/indicators",
        "/api/v2/technical-analysis/analysis/comprehensive",
        "/api/v2/market-price/batch/current",
        "/api/v2/technical-analysis/screen",
    }
)
_ABOUT_CLIENTS = frozenset({"/ws/clients", "/ws/status"})  # need a key wherever there are any
_ALWAYS_OPEN = frozenset(
    {
        "/health/live",
        "/health/ready",
        "/metrics",
        "/metrics/memory",
        "/monitoring/health",
        "/monitoring/health/live",
        "/monitoring/health/ready",
        "/monitoring/metrics",
        "/openapi.json",
        "/assets",
        "/assets/docs",
        # pages: they ask for the key, so they come without one
        "/",
        "/docs",
        "/ws/demo",
        "/tasks",
        "/performance-dashboard",
        "/api/v2/performance/dashboard/html",
    }
)
_MEMO_LIMIT = 1_024


class Gate:
    """Admit a request or raise the reason why not. State: the limiter's counts, soft."""

    def __init__(self, settings: Settings) -> None:
        self._hosts = settings.hosts
        self._origins = frozenset(o.lower().rstrip("/") for o in settings.cors_origins)
        self._keys = {name: key.encode() for name, key in settings.keys.items()}
        self._reads_need_key = settings.key_for_reads and bool(self._keys)
        self._rate = RateLimitItemPerSecond(settings.key_requests_per_s)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._known_hosts: set[bytes] = set()

    def admit(self, scope: Scope, answering: Callable[[Scope], str] = lambda _: "") -> str:
        """Return the name of the key used, or an empty string.

        `answering` returns the route that will answer, as it is declared; where it names none, or
        one that is not listed above, the common rule for reads and changes holds.

        Raises OriginRefused (403), KeyRequired (401) or RateLimited (429).
        """
        host = origin = key = b""
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"x-api-key":
                key = value
        self._check_host(host)
        is_socket = scope["type"] == "websocket"
        changes = not is_socket and scope["method"] not in _SAFE_METHODS
        if origin and (is_socket or changes):
            self._check_origin(origin, host)
        return self._check_key(scope, key, changes, answering)

    def _check_host(self, host: bytes) -> None:
        if host in self._known_hosts:
            return
        name = _host_name(host.decode("latin-1").lower())
        if name not in self._hosts:
            raise OriginRefused(
                f"host {name[:60]!r} is not served here; add it to FINSTAGE_ALLOWED_HOSTS"
            )
        if len(self._known_hosts) < _MEMO_LIMIT:
            self._known_hosts.add(host)

    def _check_origin(self, origin: bytes, host: bytes) -> None:
        text = origin.decode("latin-1").lower().rstrip("/")
        own = host.decode("latin-1").lower()
        if text in self._origins or text in (f"http://{own}", f"https://{own}"):
            return
        raise OriginRefused(
            f"origin {text[:60]!r} may not do this; add it to FINSTAGE_CORS_ORIGINS"
        )

    def _check_key(
        self, scope: Scope, key: bytes, changes: bool, answering: Callable[[Scope], str]
    ) -> str:
        if not self._keys:
            return ""
        if scope["type"] == "websocket" and not key:
            query = parse_qs(scope["query_string"].decode("latin-1"))
            key = query.get("api_key", [""])[0].encode()
        if key:
            return self._name_of(key)
        if self._needs_key(answering(scope), changes):
            raise KeyRequired("this needs a key in the header X-API-Key")
        return ""

    def _needs_key(self, route: str, changes: bool) -> bool:
        if route in _ABOUT_CLIENTS or (changes and route not in _READING_POSTS):
            return True
        return self._reads_need_key and (changes or route not in _ALWAYS_OPEN)

    def name_of(self, key: bytes) -> str:
        """Return the name of a key, "" if it is not known."""
        found = ""
        for name, known in self._keys.items():  # all of them: the time tells nothing
            if hmac.compare_digest(known, key):
                found = name
        return found

    def _name_of(self, key: bytes) -> str:
        found = self.name_of(key)
        if not found:
            raise KeyRequired("this key is not known")
        if not self._limiter.hit(self._rate, found):
            raise RateLimited(found, 1.0)
        return found


def need_key(scope: Scope, settings: Settings) -> None:
    """Raise KeyRequired where there are keys and none was sent.

    For what a question that computes can change beside, if it is asked to.
    """
    if settings.keys and not scope[KEY_NAME]:
        raise KeyRequired("to keep results or to queue a task needs a key in the header X-API-Key")


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host[1 : host.find("]")]
    return host.rsplit(":", 1)[0] if host.count(":") == 1 else host
