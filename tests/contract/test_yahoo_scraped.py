"""yfinance under guard against a server that answers, and fails, as Yahoo does.

yfinance keeps state in its process: the singleton in `SingletonMeta._instances` with session,
cookie and crumb, the answers in `YfData.cache_get` and the cookie cache. Scraped takes all three
when it is first asked and gives them back empty at `close`; a test that asks yfinance itself has
to clear them.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import web

from infra.clock import Clock, FakeClock, SystemClock
from infra.errors import (
    SourceError,
    SourceLimited,
    SourceMalformed,
    SourceUnavailable,
    SymbolUnknown,
)
from infra.metrics import REGISTRY
from infra.sources.base import Lane
from infra.sources.breaker import FAILURES_IN_ROW
from infra.sources.budget import Budget
from infra.sources.yahoo.scraped import Scraped
from tests.fakes.yahoo import MID_SESSION_S, FakeYahoo
from tests.fakes.yahoo_faults import (
    ConsentRedirect,
    Exchange,
    Fault,
    Hang,
    Html,
    NullResult,
    Status,
    Truncated,
)
from tests.fakes.yahoo_scraped import Body, SpoiledNews

T = TypeVar("T")

REQUEST_TIMEOUT_S = 15.0
ROOT = Path(__file__).parents[2]

Ask = Callable[[Scraped], Awaitable[Any]]

# A question of each kind, and the endpoint that it cannot do without.
QUESTIONS: dict[str, Ask] = {
    "news": lambda scraped: scraped.news("AAPL", 3),
    "search": lambda scraped: scraped.search("micro", 5),
    "summary": lambda scraped: scraped.fundamentals("AAPL"),
    "quote": lambda scraped: scraped.fundamentals("AAPL"),
    "timeseries": lambda scraped: scraped.fundamentals("AAPL"),
}
endpoints = pytest.mark.parametrize("endpoint", QUESTIONS)


class FakesClock(SystemClock):
    """The fake's wall time, and the machine's for waiting."""

    def __init__(self, fake: FakeYahoo) -> None:
        self._fake = fake

    def time_s(self) -> float:
        return self._fake.now_s


@pytest.fixture
async def fake() -> AsyncIterator[FakeYahoo]:
    async with FakeYahoo() as fake:
        yield fake


@pytest.fixture
def budget(fake: FakeYahoo) -> Budget:
    return budget_of(FakesClock(fake))


@pytest.fixture
async def scraped(fake: FakeYahoo, budget: Budget, tmp_path: Path) -> AsyncIterator[Scraped]:
    scraped = Scraped(FakesClock(fake), budget.run, fake.url, cache_dir=tmp_path)
    yield scraped
    await scraped.close()


@pytest.fixture
def still() -> FakeClock:
    """A clock that stands still, for what is about waiting."""
    return FakeClock(MID_SESSION_S)


@pytest.fixture
def still_budget(still: FakeClock) -> Budget:
    return budget_of(still)


@pytest.fixture
async def waiting(
    fake: FakeYahoo, still: FakeClock, still_budget: Budget
) -> AsyncIterator[Scraped]:
    """Scraped by the clock that stands still."""
    scraped = Scraped(still, still_budget.run, fake.url, request_timeout_s=REQUEST_TIMEOUT_S)
    yield scraped
    await scraped.close()
    fake.release()


def budget_of(clock: Clock) -> Budget:
    return Budget("yahoo", clock, 1_000.0, 16, random.Random(1), burst=100)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - threads have no event of the loop
            await asyncio.sleep(0.001)


async def settle() -> None:
    """Let tasks that can go on do so: those that wait must be at the clock."""
    for _ in range(20):
        await asyncio.sleep(0)


def rejected(kind: str) -> float:
    labels = {"upstream": "yahoo", "kind": kind}
    return REGISTRY.get_sample_value("finstage_upstream_rejected_total", labels) or 0.0


# -- news --------------------------------------------------------------------------------------


async def test_news_are_the_newest_first_and_no_more_than_asked_for(scraped: Scraped) -> None:
    items = await scraped.news("AAPL", 3)

    assert [item.title for item in items] == [
        f"Made headline {number} on AAPL" for number in (1, 2, 3)
    ]
    first = items[0]
    assert first.url == "https://finance.yahoo.com/news/made-AAPL-1.html"
    assert first.published_at_ns == (MID_SESSION_S - 60) * 1e9
    assert (first.publisher, first.summary) == ("Made News", "Made summary 1.")
    assert (first.symbols, first.source) == (("AAPL",), "yahoo")
    assert first.received_at_ns == MID_SESSION_S * 1e9


async def test_news_come_in_order_and_once_whatever_yahoo_sends(
    fake: FakeYahoo, scraped: Scraped
) -> None:
    def shuffle(items: list[Any]) -> None:
        items[:] = [*items[::-1], *items]

    fake.fail("news", SpoiledNews(shuffle))

    items = await scraped.news("AAPL", 4)

    assert [item.id for item in items] == [f"made-AAPL-{number}" for number in (1, 2, 3, 4)]


async def test_news_name_the_other_symbols_that_they_are_about(
    fake: FakeYahoo, scraped: Scraped
) -> None:
    told = [{"symbol": "MSFT"}, {"symbol": "AAPL"}, {"symbol": None}, {"symbol": "MSFT"}]

    def about(items: list[Any]) -> None:
        items[0]["content"]["finance"] = {"stockTickers": told}
        items[2]["content"]["finance"] = None

    fake.fail("news", SpoiledNews(about))

    items = await scraped.news("AAPL", 2)

    assert [item.symbols for item in items] == [("AAPL", "MSFT"), ("AAPL",)]


@pytest.mark.parametrize(
    ("kind", "member", "value"),
    [
        ("news_title", "title", None),
        ("news_title", "title", ""),
        ("news_url", "clickThroughUrl", {"url": "javascript:alert(1)"}),
        ("news_url", "clickThroughUrl", None),
        ("news_date", "pubDate", "lately"),
        ("news_date", "pubDate", "2013-03-01T19:59:00"),  # of no time zone
        ("news_date", "pubDate", "2031-03-01T19:59:00Z"),  # not yet
        ("news_date", "pubDate", 1_362_168_000),
    ],
)
async def test_news_that_make_no_sense_are_left_out_and_counted(
    fake: FakeYahoo, scraped: Scraped, kind: str, member: str, value: object
) -> None:
    def spoil(items: list[Any]) -> None:
        content = items[0]["content"]
        content |= {"canonicalUrl": None, "displayTime": None, member: value}

    fake.fail("news", SpoiledNews(spoil))
    before = rejected(kind)

    items = await scraped.news("AAPL", 3)

    assert [item.id for item in items] == ["made-AAPL-2", "made-AAPL-3"]
    assert rejected(kind) == before + 1


@pytest.mark.parametrize("item", [{"id": "no-content"}, {"content": []}])
async def test_items_of_another_shape_are_left_out_and_counted(
    fake: FakeYahoo, scraped: Scraped, item: object
) -> None:
    fake.fail("news", SpoiledNews(lambda items: items.append(item)))

    before = rejected("news_row")

    items = await scraped.news("AAPL", 3)

    assert len(items) == 3
    assert rejected("news_row") == before + 1


async def test_what_yfinance_stumbles_over_makes_no_sense(
    fake: FakeYahoo, scraped: Scraped
) -> None:
    fake.fail("news", SpoiledNews(lambda items: items.append("no object")))

    with pytest.raises(SourceMalformed, match="AttributeError"):
        await scraped.news("AAPL", 3)


async def test_no_news_are_none(scraped: Scraped) -> None:
    assert await scraped.news("NO.SUCH", 3) == ()


# -- search ------------------------------------------------------------------------------------


async def test_search_finds_symbols(fake: FakeYahoo, scraped: Scraped) -> None:
    (found,) = await scraped.search("micro", 5)

    assert (found.symbol, found.name) == ("MSFT", "Microsoft Corporation")
    assert (found.exchange, found.kind) == ("NasdaqGS", "equity")
    assert found.received_at_ns == MID_SESSION_S * 1e9
    assert await scraped.search("no such company", 5) == ()
    assert len(await scraped.search("a", 2)) == 2


async def test_an_empty_search_asks_nothing(fake: FakeYahoo, scraped: Scraped) -> None:
    assert await scraped.search("  ", 5) == ()
    assert await scraped.search("micro", 0) == ()
    assert not fake.requests


async def test_rows_that_are_no_symbol_are_left_out(fake: FakeYahoo, scraped: Scraped) -> None:
    rows = (
        '{"quotes": [{"name": "a company that is not listed"}, {"symbol": "AB"},'
        ' {"symbol": 7, "quoteType": "EQUITY"}, {"symbol": "MSFT", "quoteType": "EQUITY"},'
        ' {"symbol": "MSFT", "quoteType": "EQUITY"}]}'
    )
    fake.fail("search", Body(rows))
    before = rejected("search_row")

    (found,) = await scraped.search("micro", 5)

    assert (found.symbol, found.name, found.exchange) == ("MSFT", None, None)
    assert rejected("search_row") == before + 2


async def test_a_search_asked_again_is_answered_anew(fake: FakeYahoo, scraped: Scraped) -> None:
    fake.fail("search", Body('{"quotes": []}'))

    assert await scraped.search("micro", 5) == ()
    assert len(await scraped.search("micro", 5)) == 1


# -- fundamentals ------------------------------------------------------------------------------


async def test_fundamentals_are_numbers_and_texts_by_yahoos_names(scraped: Scraped) -> None:
    found = await scraped.fundamentals("AAPL")

    values = found.values
    assert (found.symbol, found.source) == ("AAPL", "yahoo")
    assert found.received_at_ns == MID_SESSION_S * 1e9
    assert values["longName"] == "Apple Inc."
    assert values["industry"] == "Consumer Electronics"
    assert values["totalRevenue"] == 156_508e6
    assert values["trailingEps"] == 44.15
    assert values["regularMarketTime"] == MID_SESSION_S
    assert values["trailingPegRatio"] is None
    assert "maxAge" not in values
    assert all(value is None or type(value) in (float, str) for value in values.values())


@pytest.fixture(params=["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def machine_zone(request: pytest.FixtureRequest) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


@pytest.mark.usefixtures("machine_zone")
async def test_the_calendar_has_the_days_of_the_exchange_wherever_we_are(
    scraped: Scraped,
) -> None:
    values = (await scraped.fundamentals("AAPL")).values

    assert values["ex_dividend_date"] == "2013-02-07"
    assert values["dividend_date"] == "2013-02-14"
    assert values["earnings_date"] == "2013-04-23"
    assert values["earnings_date_end"] == "2013-04-29"
    assert (values["earningsLow"], values["earningsHigh"]) == (9.5, 11.25)
    assert values["revenueAverage"] == 42.5e9


async def test_a_company_without_a_calendar_has_no_dates(scraped: Scraped) -> None:
    values = (await scraped.fundamentals("IBM")).values

    assert values["longName"] == "International Business Machines"
    assert not {"earnings_date", "ex_dividend_date", "dividend_date"} & set(values)


def summary_body(**modules: Any) -> Body:
    envelope = {"quoteSummary": {"result": [modules], "error": None}}
    return Body(json.dumps(envelope))


async def test_a_day_at_the_exchange_may_not_be_the_utc_day(
    fake: FakeYahoo, scraped: Scraped
) -> None:
    late_s = datetime(2013, 4, 23, 22, tzinfo=UTC).timestamp()
    events = {"earnings": {"earningsDate": [late_s, None, 0, "soon"]}, "exDividendDate": -1}
    fake.fail(
        "summary",
        summary_body(quoteType={"quoteType": "EQUITY"}),
        summary_body(calendarEvents=events),
    )
    fake.quote_fields["AAPL"] = {"exchangeTimezoneName": "Asia/Tokyo"}

    values = (await scraped.fundamentals("AAPL")).values

    assert values["earnings_date"] == "2013-04-24"
    assert not {"earnings_date_end", "ex_dividend_date"} & set(values)


async def test_figures_that_are_no_numbers_are_none(fake: FakeYahoo, scraped: Scraped) -> None:
    fake.quote_fields["AAPL"] = {
        "trailingPE": "Infinity",
        "epsForward": "NaN",
        "priceToBook": "-Infinity",
        "bookValue": 12.5,
        "displayName": "",
        "esgPopulated": False,
        "corporateActions": [{"header": "Dividend"}],
    }

    values = (await scraped.fundamentals("AAPL")).values

    names = ("trailingPE", "epsForward", "priceToBook", "bookValue", "displayName")
    assert [values[name] for name in names] == [None, None, None, 12.5, None]
    assert not {"esgPopulated", "corporateActions"} & set(values)


async def test_unknown_symbols_raise_and_cost_one_request(
    fake: FakeYahoo, scraped: Scraped
) -> None:
    await scraped.fundamentals("AAPL")
    fake.requests.clear()

    for symbol in ("NO.SUCH", "US0378331005"):  # an ISIN is no symbol of Yahoo's
        with pytest.raises(SymbolUnknown) as caught:
            await scraped.fundamentals(symbol)
        assert caught.value.symbol == symbol

    assert fake.requests == {"summary": 1}


async def test_a_symbol_that_is_gone_is_unknown(fake: FakeYahoo, scraped: Scraped) -> None:
    fake.quote_fields["AAPL"] = {"quoteType": "NONE"}

    with pytest.raises(SymbolUnknown):
        await scraped.fundamentals("AAPL")


# -- what it costs -----------------------------------------------------------------------------


async def test_every_request_is_spent_and_cookie_and_crumb_are_fetched_once(
    fake: FakeYahoo, scraped: Scraped, budget: Budget
) -> None:
    await scraped.news("AAPL", 3)
    await scraped.search("micro", 5)
    await scraped.fundamentals("AAPL")

    assert fake.requests == {
        "cookie": 1,
        "crumb": 1,
        "news": 1,
        "search": 1,
        "summary": 2,
        "quote": 1,
        "timeseries": 1,
    }
    assert budget.state.sent_total == 8


async def test_questions_at_one_time_are_few(fake: FakeYahoo, scraped: Scraped) -> None:
    await scraped.search("micro", 5)
    fake.fail("news", Hang(), forever=True)
    asked = [asyncio.ensure_future(scraped.news("AAPL", 1)) for _ in range(12)]

    await until(lambda: fake.requests["news"] == 4)
    for _ in range(50):
        await asyncio.sleep(0.001)
    at_once = fake.requests["news"]
    fake.heal()

    assert at_once == 4
    assert [len(items) for items in await asyncio.gather(*asked)] == [1] * 12


# -- failures ----------------------------------------------------------------------------------


@endpoints
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Html(), SourceMalformed),
        (Truncated(), SourceMalformed),
        (Body('{"quotes": [{"sym'), SourceMalformed),
        (Body("null"), SourceMalformed),
        (Body('{"quotes": NaN}'), SourceMalformed),
        (Body("{}"), SourceMalformed),
        (ConsentRedirect(), SourceUnavailable),
        (Status(401), SourceUnavailable),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, Fault) else "",
)
async def test_an_answer_that_makes_no_sense_is_an_error_and_no_answer(
    fake: FakeYahoo, still: FakeClock, endpoint: str, fault: Fault, error: type[SourceError]
) -> None:
    scraped = Scraped(still, spent_once, fake.url)
    fake.fail(endpoint, fault, forever=True)

    with pytest.raises(error):
        await QUESTIONS[endpoint](scraped)

    fake.heal()
    assert await QUESTIONS[endpoint](scraped)
    await scraped.close()


@pytest.mark.parametrize("endpoint", ["summary"])
async def test_no_result_and_no_error_is_no_answer(
    fake: FakeYahoo, scraped: Scraped, endpoint: str
) -> None:
    fake.fail(endpoint, NullResult())

    with pytest.raises(SourceMalformed):
        await QUESTIONS[endpoint](scraped)


async def test_figures_that_fail_again_and_again_are_no_reason_to_ask_for_no_other(
    fake: FakeYahoo, scraped: Scraped
) -> None:
    fake.fail("summary", Html(), forever=True)
    for _ in range(FAILURES_IN_ROW):
        with pytest.raises(SourceMalformed):
            await scraped.fundamentals("AAPL")
    fake.heal()

    assert (await scraped.fundamentals("IBM")).symbol == "IBM"


async def spent_once(call: Callable[[], Awaitable[T]], lane: Lane, of: str | None) -> T:
    """Stand in for Budget.run: everything may go at once, and nothing is tried again."""
    return await call()


@endpoints
async def test_a_429_is_the_budgets_and_no_request_is_made_until_its_time_is_over(
    fake: FakeYahoo, waiting: Scraped, still: FakeClock, still_budget: Budget, endpoint: str
) -> None:
    fake.fail(endpoint, Status(429, retry_after=3_600))

    with pytest.raises(SourceLimited) as caught:
        await QUESTIONS[endpoint](waiting)
    asked = fake.requests.total()
    with pytest.raises(SourceLimited):
        await waiting.search("micro", 5)

    assert caught.value.retry_after_s == pytest.approx(3_600, abs=1)
    assert fake.requests.total() == asked
    assert still_budget.state.limited_total == 1
    still.advance(3_601)
    assert await QUESTIONS[endpoint](waiting)


async def test_a_429_on_the_crumb_does_not_become_the_crumb(
    fake: FakeYahoo, waiting: Scraped, still: FakeClock, still_budget: Budget
) -> None:
    fake.fail("crumb", Status(429, retry_after=3_600))
    with pytest.raises(SourceLimited):
        await waiting.news("AAPL", 3)
    still.advance(3_601)

    found = await waiting.fundamentals("AAPL")

    assert found.values["longName"] == "Apple Inc."
    assert fake.requests["crumb"] == 2
    assert fake.requests["news"] == 0
    assert fake.requests["summary"] == 2  # none was refused for its crumb


@pytest.mark.parametrize(
    "fault", [Status(401), Html(), Body("Too Many Requests"), Body('{"crumb": 1}'), Body("")]
)
async def test_what_is_no_crumb_is_asked_for_once_more_and_never_used(
    fake: FakeYahoo, scraped: Scraped, fault: Fault
) -> None:
    fake.fail("crumb", fault)
    assert (await scraped.fundamentals("AAPL")).values["longName"] == "Apple Inc."
    assert (fake.requests["crumb"], fake.requests["summary"]) == (2, 2)


async def test_without_a_crumb_nothing_is_asked(fake: FakeYahoo, scraped: Scraped) -> None:
    fake.fail("crumb", Status(401), forever=True)

    with pytest.raises(SourceUnavailable, match="crumb"):
        await scraped.fundamentals("AAPL")

    assert fake.requests == {"cookie": 2, "crumb": 2}
    fake.heal()
    assert await scraped.fundamentals("AAPL")


async def test_a_crumb_that_is_refused_is_fetched_once_more(
    fake: FakeYahoo, scraped: Scraped
) -> None:
    await scraped.fundamentals("AAPL")
    fake.requests.clear()
    fake.crumb = "an.Other1crumb"

    assert await scraped.fundamentals("AAPL")
    assert fake.requests == {
        "cookie": 1,
        "crumb": 1,
        "summary": 3,
        "quote": 1,
        "timeseries": 1,
    }


class Noted(Fault):
    """The right answer; the cookies that came with the request are noted."""

    def __init__(self) -> None:
        self.cookies: list[dict[str, str]] = []

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        self.cookies.append(dict(exchange.request.cookies))
        return await super().respond(exchange)


async def test_with_the_crumb_goes_the_cookie_that_it_belongs_to(
    fake: FakeYahoo, scraped: Scraped
) -> None:
    noted = Noted()
    fake.fail("cookie", noted, forever=True)
    await scraped.fundamentals("AAPL")
    fake.crumb = "an.Other1crumb"

    await scraped.fundamentals("AAPL")

    assert noted.cookies == [{}, {}]  # else Yahoo might see no need for a new one


async def test_a_refusal_is_not_no_news(fake: FakeYahoo, scraped: Scraped) -> None:
    fake.fail("news", Status(401), Status(403))

    with pytest.raises(SourceUnavailable):
        await scraped.news("AAPL", 3)
    assert fake.requests["news"] == 2
    assert len(await scraped.news("AAPL", 3)) == 3


async def test_without_its_cookie_page_yfinance_goes_on_with_the_consent_page(
    fake: FakeYahoo, still: FakeClock
) -> None:
    scraped = Scraped(still, spent_once, fake.url)
    fake.fail("cookie", Status(500), forever=True)

    assert len(await scraped.news("AAPL", 3)) == 3  # which needs no crumb

    assert fake.requests["consent"] == 1
    assert fake.requests["crumb"] == 0
    await scraped.close()


async def test_errors_of_the_server_are_tried_again(fake: FakeYahoo, scraped: Scraped) -> None:
    fake.fail("news", Status(500), Status(503))

    assert len(await scraped.news("AAPL", 3)) == 3
    assert fake.requests["news"] == 3


async def test_where_nobody_listens_the_source_is_unavailable(still: FakeClock) -> None:
    scraped = Scraped(still, spent_once, "http://127.0.0.1:9")

    with pytest.raises(SourceUnavailable, match="refused") as caught:
        await scraped.news("AAPL", 3)
    assert caught.value.cause == "refused"
    await scraped.close()


async def test_yahoo_itself_is_asked_by_yfinances_own_session_and_under_guard(
    still: FakeClock, still_budget: Budget, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readline()).decode().split()[1])
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    # A proxy that lets nothing through: the test must not reach Yahoo.
    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as proxy:
        url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        sent: list[Lane] = []

        async def spend(call: Callable[[], Awaitable[T]], lane: Lane, of: str | None) -> T:
            sent.append(lane)
            return await call()

        scraped = Scraped(still, spend)
        with pytest.raises(SourceUnavailable, match="connection is refused"):
            await scraped.news("AAPL", 3)
        await scraped.close()

    assert asked == ["fc.yahoo.com:443", "guce.yahoo.com:443"]
    assert sent == [Lane.INTERACTIVE] * 2


# -- what hangs --------------------------------------------------------------------------------


async def fail_by_hanging(
    fake: FakeYahoo, clock: FakeClock, budget: Budget, scraped: Scraped, questions: int
) -> None:
    """Let questions hang until they are over: each makes two requests within its 30 s."""
    start = fake.requests["news"]
    asked = [asyncio.ensure_future(scraped.news("AAPL", 1)) for _ in range(questions)]
    for round_ in (1, 2):
        failed = budget.state.failed_total
        await until(lambda: fake.requests["news"] == start + round_ * questions)  # noqa: B023
        clock.advance(REQUEST_TIMEOUT_S)
        await until(lambda: budget.state.failed_total == failed + questions)  # noqa: B023
        await settle()
        clock.advance(0.5)  # the pause before the second attempt
    async with asyncio.timeout(20):
        told = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(error, SourceUnavailable) for error in told)


async def test_while_one_question_hangs_others_are_answered(
    fake: FakeYahoo, waiting: Scraped
) -> None:
    fake.fail("news", Hang())
    hanging = asyncio.ensure_future(waiting.news("AAPL", 1))
    await until(lambda: fake.requests["news"] == 1)

    assert len(await waiting.search("micro", 5)) == 1  # the loop, and the server on it, go on
    assert await waiting.fundamentals("AAPL")
    assert not hanging.done()
    fake.release()

    assert len(await hanging) == 1


async def test_what_hangs_is_given_up(
    fake: FakeYahoo, waiting: Scraped, still: FakeClock, still_budget: Budget
) -> None:
    await waiting.search("micro", 5)
    fake.fail("news", Hang(), Hang())

    await fail_by_hanging(fake, still, still_budget, waiting, questions=1)

    assert len(await waiting.news("AAPL", 1)) == 1


async def test_a_crumb_that_hangs_does_not_lock_the_others_out(
    fake: FakeYahoo, waiting: Scraped, still: FakeClock, still_budget: Budget
) -> None:
    fake.fail("crumb", Hang())
    first = asyncio.ensure_future(waiting.news("AAPL", 1))
    await until(lambda: fake.requests["crumb"] == 1)
    second = asyncio.ensure_future(waiting.search("micro", 5))
    await settle()

    still.advance(REQUEST_TIMEOUT_S)
    await until(lambda: still_budget.state.failed_total == 1)
    await settle()
    still.advance(0.5)  # the pause before the second attempt

    async with asyncio.timeout(20):
        assert len(await first) == 1
        assert len(await second) == 1


async def test_while_all_threads_hang_questions_are_refused_at_once(
    fake: FakeYahoo, waiting: Scraped, still: FakeClock, still_budget: Budget
) -> None:
    await waiting.search("micro", 5)
    fake.fail("news", Hang(), forever=True)
    await fail_by_hanging(fake, still, still_budget, waiting, questions=2)
    asked = fake.requests.total()

    for ask in QUESTIONS.values():
        with pytest.raises(SourceUnavailable, match="all 4 requests to it hang"):
            await ask(waiting)

    assert fake.requests.total() == asked
    assert still_budget.state.failed_total == 4  # the refusals were no failures of Yahoo's
    fake.heal()
    async with asyncio.timeout(20):
        while True:
            try:
                assert len(await waiting.search("micro", 5)) == 1
                break
            except SourceUnavailable:
                await asyncio.sleep(0.001)


async def test_a_question_that_nobody_waits_for_asks_nothing_further(
    fake: FakeYahoo, waiting: Scraped
) -> None:
    await waiting.search("micro", 5)
    fake.fail("summary", Hang())
    question = asyncio.ensure_future(waiting.fundamentals("AAPL"))
    await until(lambda: fake.requests["summary"] == 1)

    question.cancel()
    await asyncio.gather(question, return_exceptions=True)
    fake.release()
    await asyncio.gather(*(waiting.news("AAPL", 1) for _ in range(8)))

    assert fake.requests["quote"] == 0


async def test_closing_does_not_wait_for_what_hangs(fake: FakeYahoo, waiting: Scraped) -> None:
    await waiting.search("micro", 5)
    fake.fail("news", Hang(), forever=True)
    asked = [asyncio.ensure_future(waiting.news("AAPL", 1)) for _ in range(6)]
    await until(lambda: fake.requests["news"] == 4)

    async with asyncio.timeout(1):
        await waiting.close()
        told = await asyncio.gather(*asked, return_exceptions=True)

    assert [type(error) for error in told] == [SourceUnavailable] * 6
    with pytest.raises(SourceUnavailable, match="closed"):
        await waiting.search("micro", 5)


def test_a_process_ends_while_a_request_hangs() -> None:
    program = """
import asyncio, random, socket
from infra.clock import SystemClock
from infra.sources.breaker import FAILURES_IN_ROW
from infra.sources.budget import Budget
from infra.sources.yahoo.scraped import Scraped

async def main():
    server = socket.create_server(("127.0.0.1", 0))
    server.setblocking(False)
    port = server.getsockname()[1]
    clock = SystemClock()
    budget = Budget("yahoo", clock, 10.0, 4, random.Random(1))
    scraped = Scraped(clock, budget.run, f"http://127.0.0.1:{port}", request_timeout_s=300.0)
    question = asyncio.ensure_future(scraped.news("AAPL", 1))
    connection, _ = await asyncio.get_running_loop().sock_accept(server)
    await asyncio.get_running_loop().sock_recv(connection, 1)
    question.cancel()
    print("asked")

asyncio.run(main())
"""

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=40
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "asked\n", "")


# -- yfinance's own state ----------------------------------------------------------------------


async def test_closing_leaves_nothing_in_yfinance(fake: FakeYahoo, scraped: Scraped) -> None:
    from yfinance.data import SingletonMeta, YfData

    await scraped.search("micro", 5)
    assert YfData in SingletonMeta._instances

    await scraped.close()

    assert YfData not in SingletonMeta._instances
    assert YfData.cache_get.cache_info().currsize == 0


async def test_another_begins_with_a_crumb_of_its_own(
    fake: FakeYahoo, scraped: Scraped, budget: Budget
) -> None:
    await scraped.fundamentals("AAPL")
    await scraped.close()
    fake.crumb = "an.Other1crumb"
    fake.requests.clear()

    other = Scraped(FakesClock(fake), budget.run, fake.url)

    assert await other.fundamentals("IBM")
    assert (fake.requests["crumb"], fake.requests["summary"]) == (1, 2)
    await other.close()


async def test_closing_one_leaves_its_follower_alone(
    fake: FakeYahoo, scraped: Scraped, budget: Budget
) -> None:
    await scraped.search("micro", 5)
    other = Scraped(FakesClock(fake), budget.run, fake.url)
    await other.search("micro", 5)
    fake.requests.clear()

    await scraped.close()

    assert len(await other.search("micro", 5)) == 1
    assert fake.requests == {"search": 1}
    await other.close()


async def test_nothing_is_written_but_to_the_cache_folder(
    scraped: Scraped, tmp_path: Path
) -> None:
    from yfinance.cache import _CookieDBManager, _TzDBManager

    await scraped.fundamentals("AAPL")

    assert {_CookieDBManager.get_location(), _TzDBManager.get_location()} == {str(tmp_path)}
