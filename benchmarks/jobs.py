"""A scheduled job over many symbols, beside the same work one symbol after another."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from pathlib import Path
from typing import Any, cast

from actors.alerts.client import AlertClient
from actors.feed.client import FeedClient
from actors.indicators.client import IndicatorClient
from benchmarks.report import Claim, Report, Table
from benchmarks.service import Bench
from benchmarks.stats import Summary, ratio, ratio_interval
from infra.bars import History
from infra.clock import SystemClock
from infra.db.store import Store
from infra.db.url import file_url
from infra.errors import FinstageError
from infra.sources.base import Lane
from infra.sources.budget import Budget
from infra.sources.facts import source_facts
from infra.sources.replay import load_records
from infra.sources.yahoo.source import YahooSource
from infra.universe import load_universe
from pipelines.jobs.base import JobContext
from pipelines.jobs.registry import all_jobs
from pipelines.queue.client import TaskClient
from tests.fakes.yahoo import FakeYahoo, serving_in_thread
from tests.settings import made_settings

NAME = "jobs"
_JOB = "bars.daily"
_PER_S, _AT_ONCE, _LATENCY_S = 200.0, 10, 0.050
_LEAST_OF_SEQUENTIAL = 5.0

_METHOD = """No Ray: the job `bars.daily` as the scheduler runs it, in this process, on a fake
Yahoo that answers 50 ms late and a SQLite store that holds the bars already but for the last
year's, so that the run is what a day's run is. Budget: 200 requests a second, 10 at once. The peer
is the same work without the job: one symbol after the other, each asked for and written before
the next. Rounds take turns, each with a store of its own."""


class _Feed:
    """The feed's answers, straight from a source."""

    def __init__(self, source: YahooSource, symbols: list[str]) -> None:
        self._source = source
        self._symbols = symbols

    async def monitored(self) -> tuple[str, ...]:
        return tuple(self._symbols)

    async def histories(
        self, symbols: list[str], interval: str = "1d", lane: Lane = Lane.INTERACTIVE
    ) -> dict[str, History | FinstageError]:
        found = await asyncio.gather(
            *(self._source.history(s, interval, lane=lane) for s in symbols)
        )
        return dict(zip(symbols, found, strict=True))


def run(bench: Bench) -> Report:
    """Measure in this process; the service is not needed."""
    is_tiny = bench.given is not None
    symbols = [f"S{number:03}" for number in range(5 if is_tiny else 100)]
    rounds = 1 if is_tiny else 5
    with serving_in_thread() as fake:
        bars = load_records()["AAPL"].bars[-600:]
        for symbol in symbols:
            fake.set_bars(symbol, "1d", bars)
        fake.latency_s = _LATENCY_S
        times: dict[str, list[float]] = {"job": [], "sequential": []}
        for number in range(rounds):
            bench.tell(f"round {number + 1}")
            for name, taken in times.items():
                taken.append(asyncio.run(_timed(fake, symbols, name == "job")))
    return _report(symbols, times)


async def _timed(fake: FakeYahoo, symbols: list[str], is_job: bool) -> float:
    clock = SystemClock()
    budget = Budget("yahoo", clock, _PER_S, _AT_ONCE, random.Random(1))
    source = YahooSource(clock, budget, url=fake.url, stream_url=fake.stream_url, poll_s=60.0)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(file_url(Path(folder) / "store.db"))
        await store.migrate()
        settings = made_settings(data_dir=Path(folder), source="yahoo")
        feed: Any = _Feed(source, symbols)
        context = JobContext(
            settings=settings,
            clock=clock,
            source=source_facts(settings),
            universe=load_universe(),
            store=store,
            feed=cast(FeedClient, feed),
            indicators=cast(IndicatorClient, None),
            alerts=cast(AlertClient, None),
            tasks=cast(TaskClient, None),
        )
        job = all_jobs()[_JOB]
        began_s = time.perf_counter()
        if is_job:
            await job.run(context)
        else:
            for symbol in symbols:
                one: Any = _Feed(source, [symbol])
                await job.run(
                    JobContext(
                        settings=settings,
                        clock=clock,
                        source=context.source,
                        universe=context.universe,
                        store=store,
                        feed=cast(FeedClient, one),
                        indicators=context.indicators,
                        alerts=context.alerts,
                        tasks=context.tasks,
                    )
                )
        took_s = time.perf_counter() - began_s
        await store.close()
        await source.close()
    return took_s


def _report(symbols: list[str], times: dict[str, list[float]]) -> Report:
    found = ratio(times["sequential"], times["job"])
    low, high = ratio_interval(times["sequential"], times["job"])
    claim = Claim(
        f"{_JOB} over {len(symbols)} symbols at 50 ms each at least {_LEAST_OF_SEQUENTIAL:g} x "
        "one after the other",
        f"{found:.1f} x ({low:.1f} to {high:.1f})",
        found >= _LEAST_OF_SEQUENTIAL,
    )
    rows = [(name, Summary.of(seconds).shown(2)) for name, seconds in times.items()]
    table = Table(f"{len(symbols)} symbols, s", ("how", "median (range)"), rows)
    return Report(NAME, "A scheduled job", _METHOD, [claim], [table], {"seconds": times})
