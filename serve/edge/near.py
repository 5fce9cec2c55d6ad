"""The near cache of a replica: rendered answers and last prices, kept true by the hub."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import replace
from typing import Any

from infra.caches.base import CacheStats
from infra.caches.catalogue import API_RESPONSE, PRICE_DATA, TECHNICAL_ANALYSIS
from infra.directives import (
    ASYNC_ENDPOINTS,
    PRICE_CACHE,
    TECHNICAL_CACHE,
    Directives,
    following,
    is_on,
)
from infra.messages import (
    EXTENDED,
    PRICES,
    Batch,
    Kind,
    Message,
    Snapshot,
    body_of,
    hand,
    read,
)

Headers = list[tuple[bytes, bytes]]
RawKey = tuple[str, bytes]  # path and query string, as they came

_CACHES = (("/api/v2/technical-analysis", TECHNICAL_ANALYSIS), ("/api/v2/prices", PRICE_DATA))
_RULES = {TECHNICAL_ANALYSIS: TECHNICAL_CACHE, PRICE_DATA: PRICE_CACHE}
_ENTRY_BYTES = 1_500  # an entry of no body: 1,352 to 1,461 by tracemalloc, two spellings


def _cache_of(route: str) -> str:
    return next((name for prefix, name in _CACHES if route.startswith(prefix)), API_RESPONSE)


def is_kept(route: str) -> bool:
    """Return whether answers of a route are kept now: the rule of their cache is on."""
    rule = _RULES.get(_cache_of(route))
    return rule is None or is_on(rule)


class Rendered:
    """The bytes of one answer, its headers ready to send, plain and zipped.

    `lasts`: it is the same until the data version changes. `age_s`: seconds since the source
    last answered, for one that does not now.
    Immutable but for the zipped form, which is made when first asked for.
    """

    __slots__ = (
        "body",
        "data_version",
        "etag",
        "headers",
        "headers_304",
        "headers_zipped",
        "lasts",
        "route",
        "symbol",
        "zipped",
    )

    def __init__(
        self,
        body: bytes,
        symbol: str,
        data_version: str,
        route: str,
        cache_control: bytes,
        lasts: bool = True,
        age_s: float | None = None,
    ) -> None:
        self.body = body
        self.lasts = lasts
        self.symbol = symbol
        self.data_version = data_version
        self.route = route
        self.etag = b'W/"%b"' % data_version.encode()
        self.zipped: bytes | None = None
        about = [
            (b"etag", self.etag),
            (b"cache-control", cache_control),
            (b"vary", b"accept-encoding"),
        ]
        if age_s is not None:
            about.append((b"age", b"%d" % age_s))
        self.headers = [*_content(body), *about]
        self.headers_zipped: Headers = []
        self.headers_304 = about

    def zip(self) -> bytes:
        """Return the gzip form, made once."""
        if self.zipped is None:
            self.zipped = gzip.compress(self.body, compresslevel=5, mtime=0)
            encoding = (b"content-encoding", b"gzip")
            self.headers_zipped = [*_content(self.zipped), encoding, *self.headers_304]
        return self.zipped

    @property
    def size_bytes(self) -> int:
        """Return what the entry costs, the zipped form counted as if it were there."""
        return 2 * len(self.body) + _ENTRY_BYTES


def _content(body: bytes) -> Headers:
    return [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]


class NearCache:
    """What this replica can answer without asking anybody.

    Follows the hub: a symbol's answers are dropped when `data:SYMBOL` says a new version. With
    the hub silent for longer than the lease nothing is answered from here, so no old value
    outlives a hub that is gone. State: soft.
    """

    def __init__(
        self,
        max_bytes: int,
        max_entries: int,
        lease_s: float,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.versions: dict[str, str] = {}
        self.bytes = 0
        self.heard_s = float("-inf")
        self.has_met_hub = False
        self._bounds = max_bytes, max_entries
        self._max_bytes, self._max_entries = self._bounds
        self._lease_s = lease_s
        self._now_s = now_s
        self._entries: OrderedDict[Hashable, Rendered] = OrderedDict()
        self._aliases: OrderedDict[RawKey, Hashable] = OrderedDict()
        self._by_symbol: dict[str, set[Hashable]] = {}
        self._payloads: dict[str, bytes] = {}
        self._parsed: dict[str, dict[str, Any]] = {}
        self._flights: dict[Hashable, asyncio.Task[Any]] = {}
        self._stats: dict[str, CacheStats] = {}
        self._asked: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def follow(self, directives: Directives) -> None:
        """Take the share of the bounds that caches may have, and drop what is over them."""
        share = directives.cache_share
        self._max_bytes = int(self._bounds[0] * share)
        self._max_entries = int(self._bounds[1] * share)
        for stats in self._stats.values():
            stats.max_bytes, stats.max_entries = self._max_bytes, self._max_entries
        self._fit()

    # -- rendered answers -------------------------------------------------------------------

    def lookup(self, path: str, query: bytes) -> Rendered | None:
        """Return the answer to this very request, if it is there and the hub is heard."""
        key = self._aliases.get((path, query))
        return None if key is None else self.find(key)

    def find(self, key: Hashable) -> Rendered | None:
        """Return the answer to a question, however it was spelled; None as in `lookup`."""
        entry = self._entries.get(key)
        if entry is None or self._now_s() - self.heard_s > self._lease_s:
            return None
        if not (following.is_plain or is_kept(entry.route)):
            return None
        self._entries.move_to_end(key)
        return entry

    def alias(self, raw: RawKey, key: Hashable) -> None:
        """Let a request as it came, path and query, stand for the question `key`."""
        if key in self._entries:
            self._aliases[raw] = key
            self._aliases.move_to_end(raw)
            self._entries.move_to_end(key)
            if len(self._aliases) > 2 * self._max_entries:
                self._aliases.popitem(last=False)

    def keep(self, key: Hashable, entry: Rendered) -> bool:
        """Keep an answer unless a newer version of its symbol is known already.

        `key` is everything that the answer depends on, but for the data version.
        """
        known = self.versions.get(entry.symbol)
        too_large = entry.size_bytes > self._max_bytes or self._max_entries == 0
        if too_large or not entry.lasts or known not in (None, entry.data_version):
            return False
        if not (following.is_plain or is_kept(entry.route)):
            return False
        self._drop(key)
        self._entries[key] = entry
        self._by_symbol.setdefault(entry.symbol, set()).add(key)
        self.bytes += entry.size_bytes
        stats = self._stats_of(entry.route)
        stats.sets += 1
        stats.entries += 1
        stats.bytes += entry.size_bytes
        self._fit()
        self._asked[entry.symbol] += 1
        return True

    def take_asked(self, count: int = 20) -> dict[str, int]:
        """Return the symbols whose answers were made most often, and begin to count anew."""
        asked, self._asked = self._asked, Counter()
        return dict(asked.most_common(count))

    def _fit(self) -> None:
        while self.bytes > self._max_bytes or len(self._entries) > self._max_entries:
            self._evict()

    async def once(self, key: Hashable, make: Callable[[], Awaitable[Any]]) -> Any:
        """Return what `make` gives; callers that ask meanwhile for the same key share it."""
        if not is_on(ASYNC_ENDPOINTS):
            return await make()
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.ensure_future(make())
            self._flights[key] = flight
            flight.add_done_callback(lambda _: self._flights.pop(key, None))
        return await asyncio.shield(flight)

    def _evict(self, key: Hashable | None = None) -> None:
        key = next(iter(self._entries)) if key is None else key
        self._stats_of(self._entries[key].route).evictions += 1
        self._drop(key)

    def _drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.size_bytes
            self._by_symbol[entry.symbol].discard(key)
            stats = self._stats_of(entry.route)
            stats.entries -= 1
            stats.bytes -= entry.size_bytes

    # -- figures, and less of it ------------------------------------------------------------

    def count_hits(self, route: str, count: int = 1) -> None:
        """Count reads of a route that were answered from here."""
        self._stats_of(route).hits += count

    def count_miss(self, route: str) -> None:
        """Count a read of a route that had to be made."""
        self._stats_of(route).misses += 1

    def _stats_of(self, route: str) -> CacheStats:
        name = _cache_of(route)
        stats = self._stats.get(name)
        if stats is None:
            stats = self._stats[name] = CacheStats(
                name, "edge", max_entries=self._max_entries, max_bytes=self._max_bytes
            )
        return stats

    def stats(self) -> list[CacheStats]:
        """Return the figures of answers by the cache they belong to; the bounds are of all."""
        return [replace(stats) for stats in list(self._stats.values())]

    def purge(self) -> dict[str, int]:
        """Return nothing: what is old is dropped when the hub says so."""
        return {}

    def shrink(self, name: str, max_bytes: int) -> int:
        """Drop the answers of a cache that were read longest ago; return how many bytes."""
        before = self.bytes
        for key, entry in list(self._entries.items()):
            stats = self._stats_of(entry.route)
            if stats.name == name and stats.bytes > max_bytes:
                self._evict(key)
        return before - self.bytes

    def clear(self, name: str | None = None) -> dict[str, int]:
        """Drop the answers and counts of one cache, or of all; return how many, by cache."""
        counts: dict[str, int] = {}
        for key, entry in list(self._entries.items()):
            stats = self._stats_of(entry.route)
            if name in (None, stats.name):
                counts[stats.name] = counts.get(stats.name, 0) + 1
                self._drop(key)
        for cleared in [n for n in self._stats if name in (None, n)]:
            del self._stats[cleared]
        return counts

    # -- last prices --------------------------------------------------------------------------

    def price(self, symbol: str) -> dict[str, Any] | None:
        """Return the last `price_update` of regular hours, or None if the hub told none."""
        return self._last(PRICES + symbol)

    def extended_price(self, symbol: str) -> dict[str, Any] | None:
        """Return the last `price_update` before or after regular hours, if there was any."""
        return self._last(EXTENDED + symbol)

    def _last(self, topic: str) -> dict[str, Any] | None:
        if (payload := self._payloads.pop(topic, None)) is not None:
            for _, body in read([Message(topic, payload)]):
                self._parsed[topic] = body
        return self._parsed.get(topic)

    # -- following the hub --------------------------------------------------------------------

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Forget everything and take the hub's state."""
        self.has_met_hub = True
        self._payloads.clear()
        self._parsed.clear()
        for symbol in tuple(self._by_symbol):
            self._forget(symbol)
        self.versions.clear()
        for _, message in snapshot.messages:
            hand(message, self._take)

    def on_batch(self, batch: Batch) -> None:
        """Take news in order."""
        for message in batch.messages:
            hand(message, self._take)

    def _take(self, kind: Kind, message: Message) -> None:
        topic = message.topic
        if kind is Kind.ENDED:
            self._payloads.pop(topic, None)
            self._parsed.pop(topic, None)
        elif kind in (Kind.PRICES, Kind.EXTENDED):
            self._payloads[topic] = message.payload
            self._parsed.pop(topic, None)
        elif kind is Kind.DATA:
            news = body_of(message)
            if self.versions.get(news["symbol"]) != news["data_version"]:
                self.versions[news["symbol"]] = news["data_version"]
                self._forget(news["symbol"], but=news["data_version"])

    def _forget(self, symbol: str, but: str = "") -> None:
        for key in tuple(self._by_symbol.get(symbol, ())):
            entry = self._entries[key]
            if entry.data_version != but:
                self._stats_of(entry.route).invalidations += 1
                self._drop(key)
