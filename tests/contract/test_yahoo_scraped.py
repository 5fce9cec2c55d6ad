"""News, search and figures of Yahoo through yfinance, from a server that fails as Yahoo does."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from yfinance.data import SingletonMeta, YfData

from infra.clock import SystemClock
from infra.errors import SourceError, SourceMalformed, SymbolUnknown
from infra.sources.budget import Budget
from infra.sources.yahoo.scraped import Scraped
from tests.fakes.yahoo import FakeYahoo
from tests.fakes.yahoo_faults import Fault, Hang, Html, Status, Truncated

Question = Callable[[Scraped], Awaitable[Any]]

QUESTIONS: dict[str, Question] = {
    "news": lambda s: s.news("AAPL", 3),
    "search": lambda s: s.search("apple", 3),
    "summary": lambda s: s.fundamentals("AAPL"),
}


@pytest.fixture
async def fake() -> AsyncIterator[FakeYahoo]:
    async with FakeYahoo() as fake:
        yield fake


@pytest.fixture
async def scraped(fake: FakeYahoo, tmp_path: Path) -> AsyncIterator[Scraped]:
    SingletonMeta._instances.clear()
    YfData.cache_get.cache_clear()
    clock = SystemClock()
    budget = Budget("yahoo", clock, 1_000.0, 16, random.Random(1))
    scraped = Scraped(
        clock,
        budget.run,
        fake.url,
        cache_dir=tmp_path,
        request_timeout_s=1.0,
        question_timeout_s=5.0,
    )
    yield scraped
    await scraped.close()


async def test_news_are_the_newest_first_and_say_where_they_stand(scraped: Scraped) -> None:
    news = await scraped.news("AAPL", 3)

    assert 0 < len(news) <= 3
    times = [item.published_at_ns for item in news]
    assert times == sorted(times, reverse=True)
    assert len({item.id for item in news}) == len(news)
    assert all(item.title and item.url.startswith("https://") for item in news)


async def test_a_search_finds_symbols(scraped: Scraped) -> None:
    assert "AAPL" in [found.symbol for found in await scraped.search("apple", 3)]
    assert await scraped.search("  ", 3) == ()


async def test_figures_are_numbers_or_texts(scraped: Scraped) -> None:
    found = await scraped.fundamentals("AAPL")

    assert found.values["currency"] == "USD"
    assert all(value is None or isinstance(value, float | str) for value in found.values.values())
    assert "earnings_date" in found.values


async def test_an_unknown_symbol_is_unknown(scraped: Scraped) -> None:
    with pytest.raises(SymbolUnknown):
        await scraped.fundamentals("NO.SUCH")


@pytest.mark.parametrize("endpoint", QUESTIONS)
@pytest.mark.parametrize("fault", [Html(), Truncated(), Status(500), Hang()], ids=repr)
async def test_what_fails_is_an_error_of_the_source_and_over_with_its_cause(
    fake: FakeYahoo, scraped: Scraped, endpoint: str, fault: Fault
) -> None:
    fake.fail(endpoint, fault, forever=True)
    with pytest.raises(SourceError):
        await QUESTIONS[endpoint](scraped)
    fake.heal()

    assert await QUESTIONS[endpoint](scraped)


async def test_a_429_in_place_of_a_crumb_is_never_a_crumb(
    fake: FakeYahoo, scraped: Scraped
) -> None:
    fake.fail("crumb", Status(429), forever=True)
    with pytest.raises(SourceError) as failed:
        await scraped.fundamentals("AAPL")
    fake.heal()

    assert not isinstance(failed.value, SourceMalformed)
    answer = None
    for _ in range(100):  # the budget rests after a refusal
        try:
            answer = await scraped.fundamentals("AAPL")
            break
        except SourceError:
            await asyncio.sleep(0.1)
    assert answer is not None


async def test_a_question_that_hangs_holds_up_nobody(fake: FakeYahoo, scraped: Scraped) -> None:
    fake.fail("summary", Hang(), forever=True)
    hanging = asyncio.ensure_future(scraped.fundamentals("AAPL"))
    await asyncio.sleep(0)

    started_s = time.monotonic()
    found = await scraped.search("apple", 3)
    took_s = time.monotonic() - started_s

    assert found
    assert not hanging.done() or took_s > 0.5
    with pytest.raises(SourceError):
        await hanging
