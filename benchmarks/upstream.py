"""A live source under its budget: histories of many symbols, ticks, questions that are merged."""

from __future__ import annotations

import asyncio
import math
import random
import time
from typing import Any

from benchmarks.report import Claim, Report, Table
from benchmarks.service import Bench
from benchmarks.stats import Summary
from infra.clock import SystemClock
from infra.sources.base import Tick, Wanted
from infra.sources.budget import Budget
from infra.sources.replay import load_records
from infra.sources.steady import Limits, SteadySource
from infra.sources.yahoo.source import YahooSource
from tests.fakes.yahoo import MID_SESSION_S, FakeYahoo, serving_in_thread

NAME = "upstream"
_PER_S, _AT_ONCE, _LATENCY_S = 50.0, 10, 0.050
_LEAST_OF_ALLOWED = 0.8
_TICKS_PER_S = 5

_METHOD = """No Ray: the source as the feed has it, in this process, against a fake Yahoo on
loopback in a thread of its own, which shares the interpreter. Histories are whole daily ones,
asked for all at once, each answer 50 ms late, with a budget of 50 requests a second and 10 at
once. The peer is what that budget allows: the first 10 at once, then 50 a second, and the last
one's 50 ms. Ticks are sent by the fake at 5 a second for each symbol, and timed from there to the
batch that the source yields."""


class _FakesClock(SystemClock):
    """The fake's wall time, and the machine's for waiting."""

    def time_s(self) -> float:
        return float(MID_SESSION_S)


def run(bench: Bench) -> Report:
    """Measure in this process; the service is not needed."""
    is_tiny = bench.given is not None
    symbols = [f"S{number:03}" for number in range(20 if is_tiny else 500)]
    with serving_in_thread() as fake:
        bars = load_records()["AAPL"].bars
        for symbol in symbols:
            fake.set_bars(symbol, "1d", bars)
        bench.tell(f"histories of {len(symbols)} symbols")
        took_s = asyncio.run(_histories(fake, symbols))
        bench.tell("merged questions")
        counts = asyncio.run(_merged(fake, symbols))
        bench.tell("ticks")
        seconds = 1 if is_tiny else 10
        latencies_ms = asyncio.run(_ticks(fake, symbols, seconds))
    return _report(symbols, took_s, counts, latencies_ms)


def _source(fake: FakeYahoo, per_s: float, at_once: int) -> YahooSource:
    clock = _FakesClock()
    budget = Budget("yahoo", clock, per_s, at_once, random.Random(1), max_wait_s=60.0)
    return YahooSource(clock, budget, url=fake.url, stream_url=fake.stream_url, poll_s=60.0)


async def _histories(fake: FakeYahoo, symbols: list[str]) -> float:
    source = _source(fake, _PER_S, _AT_ONCE)
    fake.latency_s = _LATENCY_S
    started_s = time.perf_counter()
    await asyncio.gather(*(source.history(symbol) for symbol in symbols))
    took_s = time.perf_counter() - started_s
    fake.latency_s = 0.0
    await source.close()
    return took_s


async def _merged(fake: FakeYahoo, symbols: list[str]) -> dict[str, int]:
    source = SteadySource([_source(fake, 1_000, 16)], _FakesClock(), Limits())
    before = fake.requests.copy()
    await source.quotes(symbols)
    await asyncio.gather(*(source.history(symbols[0]) for _ in range(1_000)))
    await source.close()
    return {name: fake.requests[name] - before[name] for name in ("quote", "chart")}


async def _ticks(fake: FakeYahoo, symbols: list[str], seconds: int) -> list[float]:
    source = _source(fake, 1_000, 16)
    latencies_ms: list[float] = []

    async def read() -> None:
        async for events in source.stream(Wanted(symbols)):
            now_s = time.perf_counter()
            for event in events:
                if isinstance(event, Tick) and event.is_streamed:
                    # The volume carries the number of the tick, and that its time of sending.
                    latencies_ms.append((now_s - sent_s[event.quote.volume]) * 1_000)

    sent_s: dict[int, float] = {}
    reader = asyncio.ensure_future(read())
    while not fake.subscriptions.issuperset(symbols):  # noqa: ASYNC110 - it has no event
        await asyncio.sleep(0.01)
    await asyncio.sleep(1.0)  # the first poll, without which a tick says too little
    assert fake.loop is not None
    work = asyncio.run_coroutine_threadsafe(_send(fake, symbols, seconds, sent_s), fake.loop)
    await asyncio.wrap_future(work)
    await asyncio.sleep(0.5)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    await source.close()
    return latencies_ms


async def _send(
    fake: FakeYahoo, symbols: list[str], seconds: int, sent_s: dict[int, float]
) -> None:
    number, started_s = 10**9, time.perf_counter()
    for turn in range(seconds * _TICKS_PER_S * len(symbols)):
        due_s = started_s + turn / (_TICKS_PER_S * len(symbols))
        if (wait_s := due_s - time.perf_counter()) > 0.001:
            await asyncio.sleep(wait_s)
        number += 1
        sent_s[number] = time.perf_counter()
        at_ms = int(MID_SESSION_S * 1_000) + turn
        await fake.send_tick(symbols[turn % len(symbols)], 100 + turn % 7, at_ms, number)


def _report(
    symbols: list[str], took_s: float, counts: dict[str, int], latencies_ms: list[float]
) -> Report:
    allowed_s = max(0, len(symbols) - _AT_ONCE) / _PER_S + _LATENCY_S
    part = allowed_s / took_s
    most = math.ceil(len(symbols) / 200)
    found = Summary.of(latencies_ms)
    report = Report(NAME, "A live source under its budget", _METHOD)
    report.claims = [
        Claim(
            f"at least {_LEAST_OF_ALLOWED} × the speed that the budget allows",
            f"{part:.2f} × ({took_s:.2f} s, allowed {allowed_s:.2f} s)",
            part >= _LEAST_OF_ALLOWED,
        ),
        Claim(
            f"{len(symbols)} symbols of quotes in at most 3 requests",
            f"{counts['quote']}",
            counts["quote"] <= most,
        ),
        Claim("1,000 who ask for one history cost 1", f"{counts['chart']}", counts["chart"] == 1),
        Claim("tick to batch: p99 under 10 ms", f"{found.p99:.1f} ms", found.p99 < 10),
    ]
    rows: list[tuple[Any, ...]] = [
        ("histories", f"{len(symbols)}", f"{took_s:.2f} s", f"{allowed_s:.2f} s"),
        ("ticks", f"{len(latencies_ms)}", f"{found.median:.2f} ms", f"p99 {found.p99:.2f} ms"),
    ]
    header = ("what", "number", "took, or median", "allowed, or p99")
    report.tables.append(Table("What it took", header, rows))
    report.samples = {"seconds": {"histories": [took_s]}, "milliseconds": {"ticks": latencies_ms}}
    return report
