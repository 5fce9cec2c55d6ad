"""Named caches: what a hit costs, how often there is one, and what giving back gives back."""

from __future__ import annotations

import asyncio
import bisect
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import ray
from cachetools import LRUCache, TTLCache

import finstage
from actors.cache.client import CacheClient
from benchmarks.report import Claim, Report, Table
from benchmarks.service import Bench
from benchmarks.stats import Summary, ratio, ratio_interval
from infra.caches.base import Lifetime
from infra.caches.catalogue import SPECS
from infra.caches.decorators import cache_result
from infra.caches.memory import MemoryCache
from infra.caches.named import NamedCaches
from infra.memory.allocator import pin_arenas
from infra.memory.shedding import Shed, shed

NAME = "caches"
_MOST_NEAR, _MOST_SHARED, _LEAST_GIVEN_BACK = 1.5, 1.3, 0.6
_KEYS, _EXPONENT, _SEED = 10_000, 1.2, 7
_CLAIMED_PCT = {
    "technical_analysis": 85.0, "price_data": 78.0, "news": 92.0, "api_response": 70.0,
}  # fmt: skip

_METHOD = f"""Near hits: 500 keys, read in a fixed random order, beside `cachetools.TTLCache`
behind a lock; blocks take turns. Shared hits: this process joins the service's Ray and asks the
CacheActor for a value of 100 bytes, beside a call of an actor that does nothing but return it;
calls take turns. Zipf: {_KEYS:,} keys, s = {_EXPONENT}, seed {_SEED}, each cache with its default
entries, beside `cachetools.LRUCache` of the same size on the same reads and Belady's choice, which
knows what comes. Shedding: arrays of 160 kB fill a cache, then a tenth is left."""


def run(bench: Bench) -> Report:
    """Measure in this process, and on a service for the shared level."""
    is_tiny = bench.given is not None
    pin_arenas()
    bench.tell("near hits")
    ours, peers = _near(*((2, 2_000) if is_tiny else (31, 100_000)))
    bench.tell("reads by Zipf's law")
    rates = {s.name: _rates(s.max_entries, 5_000 if is_tiny else 300_000) for s in SPECS[:4]}
    bench.tell("misses at one time")
    runs = asyncio.run(_runs_of_misses(1_000))
    bench.tell("shedding")
    given_back = _given_back(20 if is_tiny else 1_000)
    with bench.service() as target:
        with finstage.connect(data_dir=target.settings.data_dir):
            shared, bare = asyncio.run(_shared(bench, 20 if is_tiny else 1_500))
    return _report(ours, peers, rates, runs, given_back, shared, bare)


def _near(rounds: int, reads: int) -> tuple[list[float], list[float]]:
    """Return nanoseconds a hit, ours and the peer's, by block."""
    keys = [f"k{n}" for n in np.random.default_rng(_SEED).integers(0, 500, reads)]
    values = MemoryCache("near", "near", 500, 2**25, 600.0)
    peer: TTLCache[str, int] = TTLCache(500, 600)
    lock = threading.Lock()
    for key in set(keys):
        values.set(key, 1)
        peer[key] = 1

    def locked(key: str) -> int | None:
        with lock:
            return peer.get(key)

    ours_ns, peer_ns = [], []
    for _ in range(rounds):
        ours_ns.append(_block_ns(values.get, keys))
        peer_ns.append(_block_ns(locked, keys))
    return ours_ns, peer_ns


def _block_ns(read: Callable[[str], Any], keys: Sequence[str]) -> float:
    began_s = time.perf_counter()
    for key in keys:
        read(key)
    return (time.perf_counter() - began_s) / len(keys) * 1e9


def _rates(entries: int, reads: int) -> tuple[float, float, float]:
    """Return the hit rates in per cent: ours, cachetools' LRU, Belady's."""
    weights = 1 / np.arange(1, _KEYS + 1) ** _EXPONENT
    draws = np.random.default_rng(_SEED)
    keys = draws.choice(_KEYS, reads, p=weights / weights.sum()).tolist()
    values = MemoryCache("zipf", "near", entries, 2**30, None)
    peer: LRUCache[int, int] = LRUCache(entries)
    found = 0
    for key in keys:
        if values.get(key) is None:
            values.set(key, 1)
        if key in peer:
            found += 1
            peer[key]
        else:
            peer[key] = 1
    stats = values.stats()
    return 100 * stats.hits / reads, 100 * found / reads, _belady_pct(keys, entries)


def _belady_pct(keys: Sequence[int], entries: int) -> float:
    """Return the hit rate of a cache that drops what is needed last."""
    uses: dict[int, list[int]] = defaultdict(list)
    for at, key in enumerate(keys):
        uses[key].append(at)
    never = len(keys)
    held: dict[int, int] = {}
    order: list[tuple[int, int]] = []  # (next use, key), sorted
    hits = 0
    for at, key in enumerate(keys):
        later = bisect.bisect_right(uses[key], at)
        next_use = uses[key][later] if later < len(uses[key]) else never + key
        if key in held:
            hits += 1
            order.pop(bisect.bisect_left(order, (held[key], key)))
        elif len(held) >= entries:
            if order[-1][0] <= next_use:
                continue  # it would be the first to go
            del held[order.pop()[1]]
        held[key] = next_use
        bisect.insort(order, (next_use, key))
    return 100 * hits / len(keys)


async def _runs_of_misses(callers: int) -> int:
    """Return how often a function ran that so many callers missed at one time."""
    runs = []

    @cache_result("bench_misses", ttl=60, local=True)
    async def slow() -> int:
        runs.append(1)
        await asyncio.sleep(0.05)
        return 1

    await asyncio.gather(*(slow() for _ in range(callers)))
    return len(runs)


def _given_back(arrays: int) -> Shed:
    caches = NamedCaches()
    big = caches.named("bench")
    big.near.resize(2 * arrays, 2**30)
    for number in range(arrays):
        big.set(str(number), np.full(20_000, number))
    return shed(aggressive=True, chosen=caches)


async def _shared(bench: Bench, count: int) -> tuple[list[float], list[float]]:
    """Return milliseconds of a shared hit and of a bare actor call, by call."""

    class Bare:
        async def get(self, _key: str) -> bytes:
            return bytes(100)

    client = CacheClient(5.0)
    actor = ray.remote(Bare).options(num_cpus=0).remote()
    await client.give("bench_shared", "k", bytes(100), Lifetime(600.0))
    shared_ms, bare_ms = [], []
    bench.tell("shared hits")
    try:
        for number in range(count + 20):
            began_s = time.perf_counter()
            found = await client.fetch("bench_shared", "k", 1.0)
            middle_s = time.perf_counter()
            await actor.get.remote("k")
            ended_s = time.perf_counter()
            assert found is not None
            if number >= 20:  # the first calls make connections
                shared_ms.append(1_000 * (middle_s - began_s))
                bare_ms.append(1_000 * (ended_s - middle_s))
    finally:
        ray.kill(actor)
        await client.clear("bench_shared")
    return shared_ms, bare_ms


def _report(
    ours: list[float],
    peers: list[float],
    rates: dict[str, tuple[float, float, float]],
    runs: int,
    given_back: Shed,
    shared: list[float],
    bare: list[float],
) -> Report:
    near, across = ratio(ours, peers), ratio(shared, bare)
    low, high = ratio_interval(shared, bare)
    share = given_back.freed_bytes / max(1, given_back.estimate_bytes)
    claims = [
        Claim(
            f"a near hit costs at most {_MOST_NEAR} x cachetools.TTLCache behind a lock",
            f"{near:.2f} x",
            near <= _MOST_NEAR,
        ),
        Claim(
            f"a shared hit costs at most {_MOST_SHARED} x a bare actor call",
            f"{across:.2f} x ({low:.2f} to {high:.2f})",
            across <= _MOST_SHARED,
        ),
        Claim(
            "hit rates on Zipf's reads are at least cachetools.LRUCache's",
            ", ".join(f"{name} {r[0]:.1f} %" for name, r in rates.items()),
            all(r[0] >= r[1] - 1e-9 for r in rates.values()),
        ),
        Claim("1,000 misses of one key at one time run the function once", f"{runs}", runs == 1),
        Claim(
            f"shedding gives back at least {_LEAST_GIVEN_BACK:.0%} of its estimate",
            f"{given_back.freed_bytes / 2**20:.0f} of {given_back.estimate_bytes / 2**20:.0f} MiB,"
            f" {share:.0%}",
            share >= _LEAST_GIVEN_BACK,
        ),
    ]
    tables = [
        Table(
            "What a hit costs",
            ("what", "median (range)"),
            [
                ("near, ns", Summary.of(ours).shown(0)),
                ("TTLCache behind a lock, ns", Summary.of(peers).shown(0)),
                ("shared, ms", Summary.of(shared).shown()),
                ("bare actor call, ms", Summary.of(bare).shown()),
            ],
        ),
        Table(
            "Hit rates in per cent",
            ("cache", "here", "LRUCache", "Belady", "claimed of the earlier system"),
            [
                (name, f"{r[0]:.1f}", f"{r[1]:.1f}", f"{r[2]:.1f}", f"{_CLAIMED_PCT[name]:.0f}")
                for name, r in rates.items()
            ],
        ),
    ]
    samples = {
        "near_ns": ours, "peer_ns": peers, "shared_ms": shared, "bare_ms": bare,
        "rates_pct": {name: list(r) for name, r in rates.items()},
    }  # fmt: skip
    return Report(NAME, "Caches", _METHOD, claims, tables, samples)
