"""The shared level of the caches as an actor; its process has the telemetry too."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from actors.cache.core import SharedCaches
from actors.hub.client import HubClient, follow_changes
from actors.reporting import report_metrics
from actors.runtime import ServiceActor, exposed
from actors.telemetry.telemetry import Telemetry
from infra.caches.base import Found, Lifetime
from infra.caches.catalogue import parsed_specs
from infra.caches.in_loop import InLoop
from infra.caches.named import caches
from infra.clock import SystemClock
from infra.settings import Settings


class CacheActor(ServiceActor):
    """Cache state that all processes share; the telemetry is a part of it.

    State: soft; a restart begins empty, which costs a recomputation.
    """

    role = "cache"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        clock = SystemClock()
        caches.configure(parsed_specs(settings.caches))
        self._shared = SharedCaches(
            settings.shared_cache_bytes, settings.shared_cache_entries, caches.changes, clock
        )
        caches.add(InLoop(self._shared, asyncio.get_running_loop()))
        self._telemetry = Telemetry(settings, self.process, clock)
        self.keep(follow_changes(HubClient(settings.actor_wait_s), caches.changes))
        self.keep(report_metrics(self.process, self._telemetry))
        self.keep(self._telemetry.watch_memory())

    def parts(self) -> Mapping[str, Any]:
        """Return the shared level itself, and the telemetry."""
        return {"": self, "telemetry": self._telemetry}

    @exposed
    async def fetch(self, cache: str, key: str, claim_s: float, who: str) -> Found | None:
        """Return a value, or None to `who`, which is to make it within `claim_s` seconds.

        Others who ask meanwhile wait for that.
        """
        return await self._shared.fetch(cache, key, claim_s, who)

    @exposed
    async def give(self, cache: str, key: str, value: bytes, lifetime: Lifetime, who: str) -> bool:
        """Keep a value; False where it is too large, or made of data that is old by now."""
        return self._shared.give(cache, key, value, lifetime, who)

    @exposed
    async def release(self, cache: str, key: str, who: str) -> None:
        """Let another caller make what `who` could not."""
        self._shared.release(cache, key, who)

    @exposed
    async def delete(self, cache: str, key: str) -> bool:
        """Forget a value; say whether it was there."""
        return self._shared.delete(cache, key)

    @exposed
    async def clear(self, cache: str | None) -> int:
        """Forget the values of one cache, or of all, here; return how many there were."""
        return sum(self._shared.clear(cache).values())

    @exposed
    async def cache_settings(self) -> tuple[str, str]:
        """Return the backend of the shared level, and the bounds of caches as they are written."""
        return self.settings.cache_backend.get_secret_value(), self.settings.caches
