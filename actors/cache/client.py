"""The shared cache, and what all processes say of themselves, as others see them."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable
from typing import Any, Literal

from actors.cache.memory_book import MemoryBook as MemoryBook
from actors.cache.memory_book import Sample as Sample
from actors.reporting import Told
from actors.runtime import ActorClient
from infra.caches.base import CacheStats, Found, Lifetime, SharedState
from infra.directives import Directives
from infra.errors import ActorError
from infra.metrics import Families, ProcessReport

CACHE = "finstage-cache"
_ORDER_S = 15.0


class CacheClient(ActorClient):
    """Calls to the CacheActor; each raises ActorUnavailable if it does not come back in time.

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

    async def cache_settings(self) -> tuple[str, str]:
        """Return the backend of the shared level, and the bounds of caches."""
        backend, specs = await self._ask("cache_settings")
        return backend, specs

    async def report_metrics(self, report: ProcessReport) -> Told:
        """Report the counts of this process; return what it is to do."""
        told: Told = await self._ask("report_metrics", report)
        return told

    async def direct(self, directives: Directives) -> None:
        """Let every process follow these, from its next report on."""
        await self._ask("direct", directives)

    async def obeyed(self, process: str, number: int, result: dict[str, Any]) -> None:
        """Tell what came of an order."""
        await self._ask("obeyed", process, number, result)

    async def order(
        self,
        kind: Literal["shed", "purge", "clear"],
        cache: str | None = None,
        aggressive: bool = False,
    ) -> dict[str, dict[str, Any] | None]:
        """Let every process shed memory, purge or clear its caches; return figures by process.

        Takes two to six seconds; None stands for a process that did not answer.
        """
        results: dict[str, dict[str, Any] | None] = await self._ask_once(
            "order", kind, cache, aggressive, wait_s=_ORDER_S
        )
        return results

    async def memory(self) -> Sample:
        """Return the memory of the whole service."""
        sample: Sample = await self._ask("memory")
        return sample

    async def memory_book(self) -> MemoryBook:
        """Return a day's samples, alerts, and what shedding did."""
        book: MemoryBook = await self._ask("memory_book")
        return book

    async def metrics_text(self) -> bytes:
        """Return the Prometheus text of all processes."""
        text: bytes = await self._ask("metrics_text")
        return text

    async def metrics(self, prefix: str) -> Families:
        """Return the samples of all processes, of metrics whose names begin with `prefix`."""
        families: Families = await self._ask("metrics", prefix)
        return families

    async def note(self, process: str, text: bytes) -> None:
        """Say something of this process; it is kept for ten seconds."""
        await self._ask("note", process, text)

    async def notes(self) -> dict[str, bytes]:
        """Return what processes said of themselves in the last ten seconds."""
        notes: dict[str, bytes] = await self._ask("notes")
        return notes

    async def processes(self) -> tuple[str, ...]:
        """Return the processes that report, as role-pid."""
        names: tuple[str, ...] = await self._ask("processes")
        return names


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
