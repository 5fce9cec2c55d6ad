"""`make soak`: every route and stream for as long as one likes, and what memory does meanwhile.

`python -m benchmarks.soak --minutes 60`. Caches are small, so that ten times what they hold passes
through them in every round.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson

import finstage
from benchmarks.machine import ROOT, describe_machine
from benchmarks.report import Claim, Report, Table
from benchmarks.service import finstage as service
from infra.memory.trend import Slope, slope_of

NAME = "soak"
CACHE_ENTRIES = 100  # of rendered answers; a round asks for ten times as many
ENVIRON = {
    "FINSTAGE_NEAR_CACHE_ENTRIES": str(CACHE_ENTRIES),
    "FINSTAGE_NEAR_CACHE_BYTES": str(4 * 2**20),
    "FINSTAGE_SHARED_CACHE_BYTES": str(4 * 2**20),
    "FINSTAGE_HUB_HISTORY_BYTES": str(4 * 2**20),
    "FINSTAGE_REPLAY_SESSION_S": "10",
}
_SOCKETS, _AT_ONCE, _EVERY_S = 10, 8, 5.0
_TA, _PRICES = "/api/v2/technical-analysis", "/api/v2/prices"
_SETTLE_SHARE = 0.4  # of the time, before which memory may still grow
_FLAT_PCT_PER_H = 1.0

_METHOD = f"""`finstage up` with {CACHE_ENTRIES} rendered answers at most. {_AT_ONCE} clients ask
every GET route of the OpenAPI document that needs no more than a symbol, and history and
indicators with spans and parameters that differ, ten times as many as the cache holds in each
round; {_SOCKETS} sockets take all prices. Memory is that of the whole tree, shared pages shared
out, each {_EVERY_S:g} seconds; its slope is Theil's over the last {1 - _SETTLE_SHARE:.0%} of the
time, with Sen's 95 % interval."""


@dataclass(slots=True)
class Soaked:
    """What was asked, what came, and what memory did (MB, by seconds since the start)."""

    answers: Counter[int] = field(default_factory=Counter)
    frames: int = 0
    times_s: list[float] = field(default_factory=list)
    tree_mb: list[float] = field(default_factory=list)
    processes_mb: list[dict[str, float]] = field(default_factory=list)  # resident, ours only

    @property
    def tail(self) -> tuple[list[float], list[float]]:
        """Return the samples after memory had time to settle."""
        first = next(
            (n for n, t in enumerate(self.times_s) if t >= self.times_s[-1] * _SETTLE_SHARE), 0
        )
        return self.times_s[first:], self.tree_mb[first:]

    @property
    def slope(self) -> Slope | None:
        """Return the tail's slope in MB an hour."""
        return slope_of(*self.tail)

    @property
    def tail_growth_pct(self) -> float:
        """Return by how much the last third of the tail is over its first third, in medians."""
        values = self.tail[1]
        third = max(1, len(values) // 3)
        first, last = sorted(values[:third]), sorted(values[-third:])
        return 100 * (last[len(last) // 2] / first[len(first) // 2] - 1)


async def soak(url: str, minutes: float, seed: int = 7) -> Soaked:
    """Drive a service for so long."""
    found = Soaked()
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:
        listed = (await http.get("/api/v2/symbols?size=500")).json()["items"]
        symbols = [item["symbol"] for item in listed]
        plain = _plain_routes((await http.get("/openapi.json")).json())
        until_s = time.monotonic() + 60 * minutes
        urls = _urls(plain, symbols, random.Random(seed))
        readers = [asyncio.create_task(_take(url, symbols, found)) for _ in range(_SOCKETS)]
        askers = [_ask(http, urls, until_s, found) for _ in range(_AT_ONCE)]
        try:
            await asyncio.gather(*askers, _sample(http, until_s, found))
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
    return found


def _plain_routes(openapi: dict[str, Any]) -> list[str]:
    """Return the GET routes that need nothing, or a symbol in the path."""
    found = []
    for path, methods in openapi["paths"].items():
        if (about := methods.get("get")) is None:
            continue
        needed = {p["name"] for p in about.get("parameters", []) if p.get("required")}
        if needed <= {"symbol"}:
            found.append(path)
    return found


def _urls(plain: list[str], symbols: list[str], draws: random.Random) -> Iterator[str]:
    """Give for ever: each route once a round, among ten times what the cache holds."""
    first = date(2004, 1, 2)
    while True:
        for path in plain:
            yield path.replace("{symbol}", draws.choice(symbols))
        for _ in range(5 * CACHE_ENTRIES):
            start = first + timedelta(days=draws.randrange(5_000))
            end = start + timedelta(days=draws.randrange(5, 200))
            yield f"{_PRICES}/{draws.choice(symbols)}/history?start={start}&end={end}"
            names = f"sma({draws.randrange(2, 400)})"
            yield f"{_TA}/indicators/{draws.choice(symbols)}?indicators={names}&period=1y"


async def _ask(
    http: httpx.AsyncClient, urls: Iterator[str], until_s: float, found: Soaked
) -> None:
    for url in itertools.takewhile(lambda _: time.monotonic() < until_s, urls):
        try:
            found.answers[(await http.get(url)).status_code] += 1
        except httpx.HTTPError:
            found.answers[0] += 1


async def _take(url: str, symbols: list[str], found: Soaked) -> None:
    async for _ in finstage.StreamClient(url).subscribe(symbols):
        found.frames += 1


async def _sample(http: httpx.AsyncClient, until_s: float, found: Soaked) -> None:
    began_s = time.monotonic()
    while time.monotonic() < until_s:
        answer = await http.get("/api/memory/status")
        if answer.status_code == 200:
            found.times_s.append(time.monotonic() - began_s)
            memory = answer.json()["system_memory"]
            found.tree_mb.append(memory["tree_mb"])
            found.processes_mb.append(memory["processes_mb"])
        await asyncio.sleep(_EVERY_S)


def _by_process(found: Soaked) -> list[tuple[str, str, str]]:
    """Return each process's memory after it had settled, and at the end, the most grown first."""
    first = len(found.processes_mb) - len(found.tail[1])
    before, after = found.processes_mb[first], found.processes_mb[-1]
    names = sorted(after, key=lambda name: before.get(name, 0.0) - after[name])
    return [(n, f"{before[n]:.0f}" if n in before else "–", f"{after[n]:.0f}") for n in names]


def report(found: Soaked, minutes: float) -> Report:
    """Return the page."""
    slope, last_mb = found.slope, found.tree_mb[-1]
    shown = (
        f"{slope.per_h:+.1f} MB an hour ({slope.low_per_h:+.1f} to {slope.high_per_h:+.1f})"
        if slope is not None else "too few samples"
    )  # fmt: skip
    is_flat = slope is not None and slope.low_per_h <= last_mb * _FLAT_PCT_PER_H / 100
    claims = [
        Claim("memory does not grow: the slope's interval is not over 1 %/h", shown, is_flat),
        Claim("no request fails", f"{found.answers[0]} without an answer, "
              f"{sum(n for c, n in found.answers.items() if c >= 500)} of 5xx",
              not found.answers[0]),
    ]  # fmt: skip
    rows = [
        (f"{found.times_s[n] / 60:.1f}", f"{found.tree_mb[n]:.0f}")
        for n in range(0, len(found.tree_mb), max(1, len(found.tree_mb) // 20))
    ]
    answered = ", ".join(f"{code}: {count:,}" for code, count in sorted(found.answers.items()))
    tables = [
        Table("Memory of the tree", ("minute", "MB"), rows),
        Table("Resident memory of our processes, MB",
              ("process", "when memory had settled", "at the end"), _by_process(found)),
        Table("Driven", ("what", "count"), [("answers", answered),
                                            ("messages", f"{found.frames:,}")]),
    ]  # fmt: skip
    samples = {
        "times_s": found.times_s,
        "tree_mb": found.tree_mb,
        "processes_mb": found.processes_mb,
    }
    return Report(NAME, f"Soak of {minutes:g} minutes", _METHOD, claims, tables, samples)


def main() -> int:
    """Run it; return 1 if a claim does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    minutes = parser.parse_args().minutes
    with service(**ENVIRON) as target:
        found = asyncio.run(soak(target.url, minutes))
    page = report(found, minutes)
    folder: Path = ROOT / "docs" / "bench"
    page.write(folder, describe_machine(), 0.0)
    sys.stdout.write(orjson.dumps([c.measured for c in page.claims]).decode() + "\n")
    return 0 if all(claim.holds for claim in page.claims) else 1


if __name__ == "__main__":
    sys.exit(main())
