"""Who waits for ticks goes before what is fetched for nobody in particular."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actors.feed.core import MonitoredSet
from actors.feed.known import KnownSymbols
from infra.bars import History
from infra.clock import SystemClock
from infra.sources.base import Lane
from infra.sources.budget import Budget
from infra.sources.steady import Limits, SteadySource
from infra.sources.yahoo.source import YahooSource
from tests.fakes.yahoo import FakeYahoo

REFERENCES = [f"MADE{number}" for number in range(300)]
LATENCY_S = 0.2
AT_ONCE = 4
# A round before and one beside each of cookie, crumb and quote; 300 are 75 rounds.
MOST_BEFORE = 8 * AT_ONCE


@pytest.fixture
async def fake() -> AsyncIterator[FakeYahoo]:
    async with FakeYahoo() as fake:
        fake.latency_s = LATENCY_S
        bars = fake.market.books["AAPL"].record.bars
        for symbol in REFERENCES:
            fake.set_bars(symbol, "1d", bars[-30:])
        yield fake


@pytest.fixture
async def source(fake: FakeYahoo) -> AsyncIterator[SteadySource]:
    clock = SystemClock()
    budget = Budget("yahoo", clock, 100.0, AT_ONCE, random.Random(1))
    yahoo = YahooSource(clock, budget, url=fake.url, stream_url=fake.stream_url)
    source = SteadySource([yahoo], clock, Limits())
    yield source
    await source.close()


@pytest.fixture
async def references(
    fake: FakeYahoo, source: SteadySource
) -> AsyncIterator[list[asyncio.Task[History]]]:
    """Ask for the bars of 300 symbols as alerts do; yield once the first are under way."""
    tasks = [
        asyncio.ensure_future(source.history(symbol, lane=Lane.BACKGROUND))
        for symbol in REFERENCES
    ]
    while charts(fake) < AT_ONCE:  # noqa: ASYNC110 - the fake has no event
        await asyncio.sleep(0.01)
    yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def charts(fake: FakeYahoo) -> int:
    return sum(1 for endpoint, _, _ in fake.log if endpoint == "chart")


async def test_a_subscription_to_a_symbol_never_met_overtakes_300_references(
    fake: FakeYahoo,
    source: SteadySource,
    references: list[asyncio.Task[History]],
    tmp_path: Path,
) -> None:
    known = KnownSymbols(source, MonitoredSet(tmp_path / "m.json", (), 1_000))

    refused = await known.refused(["IBM", "NO.SUCH"])

    assert list(refused) == ["NO.SUCH"]
    assert charts(fake) <= MOST_BEFORE


async def test_a_subscription_to_what_is_known_asks_nobody(
    fake: FakeYahoo, source: SteadySource, tmp_path: Path
) -> None:
    known = KnownSymbols(source, MonitoredSet(tmp_path / "m.json", ("IBM",), 1_000))

    assert await known.refused(["IBM"]) == {}
    assert not fake.log


async def test_bars_for_live_values_overtake_even_their_own_place_in_the_queue(
    fake: FakeYahoo, source: SteadySource, references: list[asyncio.Task[History]]
) -> None:
    history = await source.history(REFERENCES[-1])

    assert len(history.bars)
    assert charts(fake) <= MOST_BEFORE
    assert await references[-1] is history
