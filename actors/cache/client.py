"""The shared cache as others see it."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING

from actors.runtime import ActorClient
from actors.telemetry.client import CACHE
from infra.caches.base import CacheStats, Found, Lifetime, SharedState
from infra.errors import ActorError

if TYPE_CHECKING:
    from actors.cache.actor import CacheActor as Methods
else:
    Methods = object


class CacheClient(ActorClient, Methods):
    """The exposed methods of the CacheActor, from any process.

    Those of the shared level do not wait for an actor that restarts.
    """

    actor_name = CACHE

    async def fetch(self, cache: str, key: str, claim_s: float, who: str = "") -> Found | None:
        """Return a value, or None to `who`, which is to make it within `claim_s` seconds."""
        wait_s = self._wait_s + claim_s
        found: Found | None = await self._ask_now("fetch", cache, key, claim_s, who, wait_s=wait_s)
        return found

    async def give(
        self, cache: str, key: str, value: bytes, lifetime: Lifetime, who: str = ""
    ) -> bool:
        """Keep a value; False where it is not kept."""
        asked = (cache, key, value, lifetime, who)
        kept: bool = await self._ask_now("give", *asked, wait_s=self._wait_s)
        return kept

    async def release(self, cache: str, key: str, who: str = "") -> None:
        """Let another caller make what `who` could not."""
        await self._ask_now("release", cache, key, who, wait_s=self._wait_s)

    async def delete(self, cache: str, key: str) -> bool:
        """Forget a value; say whether it was there."""
        was_there: bool = await self._ask_now("delete", cache, key, wait_s=self._wait_s)
        return was_there

    async def clear(self, cache: str | None) -> int:
        """Forget all values of a cache, or of all caches; return how many there were."""
        count: int = await self._ask_now("clear", cache, wait_s=self._wait_s)
        return count


class ActorLevel:
    """The CacheActor as the shared level of a process; while it restarts it finds nothing."""

    def __init__(self, client: CacheClient) -> None:
        self._client = client
        self._who = uuid.uuid4().hex  # whose claims these are
        self._error = ""
        self._failures = 0

    async def fetch(self, cache: str, key: str, claim_s: float) -> Found | None:
        """Return a value, or None to the caller who is to make it."""
        try:
            found = await self._client.fetch(cache, key, claim_s, self._who)
        except ActorError as error:
            self._note(error)
            return None
        self._error = ""
        return found

    async def give(self, cache: str, key: str, value: bytes, lifetime: Lifetime) -> bool:
        """Keep a value; False where it is not kept."""
        try:
            return await self._client.give(cache, key, value, lifetime, self._who)
        except ActorError as error:
            self._note(error)
            return False

    async def release(self, cache: str, key: str) -> None:
        """Let another caller make what this one could not."""
        with contextlib.suppress(ActorError):
            await self._client.release(cache, key, self._who)

    async def delete(self, cache: str, key: str) -> bool:
        """Forget a value; return whether it was there."""
        try:
            return await self._client.delete(cache, key)
        except ActorError as error:
            self._note(error)
            return False

    async def clear(self, cache: str | None) -> int:
        """Forget all values of a cache, or of all; return how many."""
        try:
            return await self._client.clear(cache)
        except ActorError as error:
            self._note(error)
            return 0

    @property
    def state(self) -> SharedState:
        """Return whether the actor answered last."""
        return SharedState("actor", not self._error, self._error, self._failures)

    def stats(self) -> Iterable[CacheStats]:
        """Return nothing: the actor counts by itself."""
        return ()

    def _note(self, error: ActorError) -> None:
        self._failures += 1
        self._error = error.message
