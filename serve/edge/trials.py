"""A/B tests at the edge: who is in which variant, what that switches, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from actors.monitor.client import (
    Assigner,
    Experiment,
    Tally,
    Variant,
    experiment_from,
    hashed,
    identifier,
)
from infra.directives import Directives, following, with_rules_off
from infra.metrics import EXPERIMENT_REQUESTS

HEADER = b"x-ab-test-variants"
_GOOD = range(200, 400)

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
Arms = list[tuple[Experiment, Variant, str]]  # the string: the unit, hashed for the ledger


class Trials:
    """The running tests as one replica sees them. State: counts of two seconds, soft.

    `name_of(key)` gives the name of an API key, or an empty string.
    """

    def __init__(self, name_of: Callable[[bytes], str]) -> None:
        self._name_of = name_of
        self._assigner: Assigner | None = None
        self._tallies: dict[str, Tally] = {}

    @property
    def run(self) -> bool:
        """Return whether any test runs."""
        return self._assigner is not None

    def follow(self, directives: Directives) -> None:
        """Take the tests that run from now on."""
        running = [experiment_from(body) for body in directives.experiments]
        self._assigner = Assigner(running) if running else None

    async def through(self, handle: Handler, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, in the variants of its client, and count what came of it."""
        arms = self._arms(scope)
        if not arms:
            await handle(scope, receive, send)
            return
        status = 500
        for test, variant, _ in arms:
            self._tally(test).expose(variant.id)
        told = ",".join(f"{test.id}={variant.id}" for test, variant, _ in arms).encode()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (HEADER, told)]}
            await send(message)

        began_s = time.perf_counter()
        try:
            with with_rules_off(rules_off(arms)):
                await handle(scope, receive, watched)
        finally:
            took_ms = 1_000 * (time.perf_counter() - began_s)
            for test, variant, unit in arms:
                EXPERIMENT_REQUESTS.labels(test.id, variant.id).inc()
                self._tally(test).add(variant.id, unit, took_ms, status in _GOOD)

    def take(self) -> dict[str, Any]:
        """Return the counts since the last call by test, and forget them."""
        tallies, self._tallies = self._tallies, {}
        return {test_id: tally.take() for test_id, tally in tallies.items()}

    def _tally(self, test: Experiment) -> Tally:
        return self._tallies.setdefault(test.id, Tally())

    def _arms(self, scope: Scope) -> Arms:
        assigner = self._assigner
        tests = () if assigner is None else assigner.matching(scope["path"])
        if assigner is None or not tests:
            return []
        client = self._client(scope)
        arms: Arms = []
        for test in tests:
            unit = identifier(test.traffic_split_method, **client)
            variant = assigner.variant_of(test, unit)
            if variant is not None:
                arms.append((test, variant, hashed(test.id, unit)))
        return arms

    def _client(self, scope: Scope) -> dict[str, str]:
        key_name = session = client_id = ""
        for name, value in scope["headers"]:
            if name == b"x-api-key":
                key_name = self._name_of(value)
            elif name == b"cookie":
                session = _session(value)
            elif name == b"x-client-id":
                client_id = value.decode("latin-1")[:200]
        return {"key_name": key_name, "session_cookie": session, "client_id": client_id}


def rules_off(arms: Arms) -> frozenset[str]:
    """Return the optimisation rules that are off for a request in these variants.

    The rules that any variant of a test names are its subject: on where the request's variant has
    them, off where it does not. All others are as they are for everybody.
    """
    off = set(following.now.off)
    for test, variant, _ in arms:
        for other in test.variants:
            off.update(other.optimization_rules)
        off.difference_update(variant.optimization_rules)
    return frozenset(off)


def _session(cookie: bytes) -> str:
    try:
        found = SimpleCookie(cookie.decode("latin-1")).get("session_id")
    except CookieError:
        return ""
    return "" if found is None else found.value[:200]
