"""A source that does not answer: why is a fact, what is monitored stands, all comes back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import orjson
import pytest

from actors.feed.core import FeedCore, MonitoredSet
from actors.feed.known import KnownSymbols
from infra.bars import Quote
from infra.clock import SystemClock
from infra.errors import SourceUnavailable, SymbolUnknown
from infra.messages import SYSTEM
from infra.sources.base import Event, Tick, Wanted
from infra.sources.budget import Budget
from infra.sources.steady import Limits, SteadySource
from infra.sources.trouble import Trouble
from infra.sources.yahoo.source import YahooSource
from infra.universe import load_universe
from tests.fakes.yahoo import FakeYahoo
from tests.fakes.yahoo_faults import Fault, Hang, Html, Status
from tests.local import LocalService

MONITORED = ("AAPL", "IBM")
NO_SUCH_HOST = "http://no.such.host.invalid"


@pytest.fixture
async def fake() -> AsyncIterator[FakeYahoo]:
    async with FakeYahoo() as fake:
        yield fake


class Feed:
    """The source, what the feed knows of symbols, and the stream as the feed reads it."""

    def __init__(self, url: str, folder: Path, poll_s: float) -> None:
        clock = SystemClock()
        budget = Budget("yahoo", clock, 1_000.0, 16, random.Random(1))
        stream_url = f"ws{url.removeprefix('http')}/"
        yahoo = YahooSource(clock, budget, url=url, stream_url=stream_url, poll_s=poll_s)
        self.source = SteadySource([yahoo], clock, Limits())
        self.monitored = MonitoredSet(folder / "monitored.json", MONITORED, 100)
        self.known = KnownSymbols(self.source, self.monitored)
        self.prices: dict[str, float] = {}
        self._wanted = Wanted(MONITORED)
        self._task = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        async for events in self.source.stream(self._wanted):
            self._take(events)

    def _take(self, events: tuple[Event, ...]) -> None:
        for event in events:
            if isinstance(event, Tick):
                self.prices[event.quote.symbol] = event.quote.price

    def want(self) -> None:
        self._wanted.replace(self.monitored.symbols)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.source.close()


@asynccontextmanager
async def feeding(
    fake: FakeYahoo, folder: Path, url: str = "", poll_s: float = 0.2
) -> AsyncIterator[Feed]:
    feed = Feed(url or fake.url, folder, poll_s)
    try:
        yield feed
    finally:
        await feed.close()


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def in_trouble(feed: Feed) -> Trouble:
    """Wait until the source says that it was asked and failed."""

    def failed() -> bool:
        trouble = feed.source.trouble()
        return trouble is not None and trouble.cause != "waiting"

    await until(failed)
    trouble = feed.source.trouble()
    assert trouble is not None
    return trouble


FAULTS = [
    (Status(429, retry_after=1), "limited", "Yahoo refuses (429)"),
    (Status(500), "failing", "Yahoo answers 500"),
    (Status(401), "unauthorized", "Yahoo gave no crumb"),
    (Html(), "malformed", "the source's answer makes no sense: a page instead of data"),
]


@pytest.mark.parametrize(("fault", "cause", "text"), FAULTS)
async def test_a_yahoo_that_refuses_is_told_of_and_all_recovers(
    fake: FakeYahoo, tmp_path: Path, fault: Fault, cause: str, text: str
) -> None:
    fake.fail_all(fault)
    async with feeding(fake, tmp_path) as feed:
        trouble = await in_trouble(feed)

        assert (trouble.source, trouble.cause, trouble.text) == ("yahoo", cause, text)
        listing = feed.known.listing()
        assert listing.symbols == listing.monitored == MONITORED
        assert listing.trouble is not None
        assert not feed.prices

        fake.heal()
        await until(lambda: set(feed.prices) == set(MONITORED))
        await until(lambda: feed.source.trouble() is None)


async def test_a_yahoo_that_cannot_be_reached_says_how_and_all_recovers(
    fake: FakeYahoo, tmp_path: Path
) -> None:
    await fake.leave()
    async with feeding(fake, tmp_path) as feed:
        trouble = await in_trouble(feed)
        assert (trouble.cause, trouble.text) == ("refused", "Yahoo's connection is refused")

        await fake.come_back()
        await until(lambda: set(feed.prices) == set(MONITORED))
        await until(lambda: feed.source.trouble() is None)


async def test_a_name_that_is_not_known_is_told_as_that(fake: FakeYahoo, tmp_path: Path) -> None:
    async with feeding(fake, tmp_path, NO_SUCH_HOST) as feed:
        trouble = await in_trouble(feed)

    assert trouble.cause == "dns"
    assert trouble.text == "Yahoo's name cannot be resolved (DNS)"


async def test_a_yahoo_that_says_nothing_has_not_answered_yet(
    fake: FakeYahoo, tmp_path: Path
) -> None:
    fake.fail_all(Hang())
    async with feeding(fake, tmp_path) as feed:
        await until(feed.source.trouble)

        trouble = feed.source.trouble()
        assert trouble is not None
        assert (trouble.cause, trouble.text) == ("waiting", "Yahoo has not answered yet")
        fake.heal()
        await until(lambda: feed.source.trouble() is None)


async def test_when_it_is_tried_again_is_known(fake: FakeYahoo, tmp_path: Path) -> None:
    fake.fail_all(Status(429, retry_after=10))
    async with feeding(fake, tmp_path) as feed:
        trouble = await in_trouble(feed)

    clock = SystemClock()
    left_s = trouble.retry_after_s(clock.time_s())
    assert left_s is not None
    assert 0 < left_s <= 10
    assert trouble.sentence(clock.time_s()).startswith("Yahoo refuses (429), tried again in ")


async def test_a_subscription_does_not_wait_for_a_source_that_names_its_time(
    fake: FakeYahoo, tmp_path: Path
) -> None:
    fake.fail_all(Status(429, retry_after=600))
    async with feeding(fake, tmp_path) as feed:
        await in_trouble(feed)

        refused = await feed.known.refused(["AAPL", "META"])

    assert list(refused) == ["META"]
    error = refused["META"]
    assert isinstance(error, SourceUnavailable)
    assert error.context["cause"] == "limited"


async def test_a_chart_that_fails_refuses_no_other_symbol(fake: FakeYahoo, tmp_path: Path) -> None:
    async with feeding(fake, tmp_path, poll_s=600.0) as feed:
        await until(lambda: feed.prices)
        fake.fail("chart", *[Status(500)] * 3)
        with pytest.raises(SourceUnavailable):
            await feed.source.history("AAPL")
        trouble = feed.source.trouble()
        assert trouble is not None
        assert trouble.retry_at_s is not None  # the next poll, long after

        assert await feed.known.refused(["META"]) == {}
        assert feed.source.trouble() is None


async def test_symbols_can_be_added_meanwhile_and_show_what_they_are_later(
    fake: FakeYahoo, tmp_path: Path
) -> None:
    fake.fail_all(Status(429, retry_after=1))
    async with feeding(fake, tmp_path) as feed:
        await in_trouble(feed)

        names = await feed.known.checked(["meta", "NO.SUCH"])
        assert names == ("META", "NO.SUCH")
        feed.monitored.add(names)
        assert set(names) <= set(feed.known.listing().symbols)
        with pytest.raises(SymbolUnknown):
            await feed.known.checked(["no symbol at all"])

        fake.heal()
        feed.want()
        await until(lambda: "META" in feed.prices and feed.source.trouble() is None)
        await feed.known.review(frozenset(feed.prices))
        assert list(feed.known.listing().failures) == ["NO.SUCH"]


def test_sockets_are_told_of_trouble_once_and_of_its_end() -> None:
    core = FeedCore("yahoo")
    trouble = Trouble("yahoo", "limited", "Yahoo refuses (429)", 1_000.0, 1_010.0)
    later = Trouble("yahoo", "limited", "Yahoo refuses (429)", 1_000.0, 1_030.0)

    assert core.news_of(None, 1_000.0) == []
    (told,) = core.news_of(trouble, 1_000.0)
    assert core.news_of(later, 1_010.0) == []
    (over,) = core.news_of(None, 1_020.0)

    assert told.topic == over.topic == SYSTEM
    body = orjson.loads(told.payload)
    assert (body["event"], body["status"]) == ("source_state", "degraded")
    assert body["message"] == "Yahoo refuses (429), tried again in 10 s"
    assert body["trouble"] == trouble.body(1_000.0)
    assert orjson.loads(over.payload)["trouble"] is None


# -- what routes say ---------------------------------------------------------------------------


@pytest.fixture
def limited(local: LocalService, monkeypatch: pytest.MonkeyPatch) -> Trouble:
    now_s = local.clock.time_s()
    trouble = Trouble("replay", "limited", "Yahoo refuses (429)", now_s - 5, now_s + 10)
    monkeypatch.setattr(local.source, "trouble", lambda: trouble)
    return trouble


async def test_a_row_stands_for_each_monitored_symbol_and_says_why_it_has_no_price(
    client: httpx.AsyncClient, local: LocalService, limited: Trouble
) -> None:
    local.feed.known = KnownSymbols(
        local.source, MonitoredSet(local.settings.data_dir / "m.json", ("AAPL", "TSLA"), 10)
    )

    answer = (await client.get("/api/v2/symbols")).json()

    rows = {row["symbol"]: row for row in answer["items"]}
    assert rows["AAPL"]["no_price"] is None
    assert rows["TSLA"]["name"] == load_universe().name("TSLA")
    assert rows["TSLA"]["no_price"] == {
        "cause": "limited",
        "text": "Yahoo refuses (429)",
        "retry_at": limited.body(0)["retry_at"],
        "retry_after_s": 10.0,
    }
    assert answer["source"]["status"] == "degraded"
    assert answer["source"]["trouble"]["cause"] == "limited"


async def test_ready_is_degraded_with_the_reason(
    client: httpx.AsyncClient, limited: Trouble
) -> None:
    answer = await client.get("/health/ready")

    body = answer.json()
    assert (answer.status_code, body["status"]) == (200, "degraded")
    check = body["checks"]["source"]
    assert check["status"] == "degraded"
    assert check["detail"] == "Yahoo refuses (429), tried again in 10 s"
    assert check["trouble"]["cause"] == "limited"


async def test_the_other_health_routes_say_degraded_too(
    client: httpx.AsyncClient, limited: Trouble
) -> None:
    ready = (await client.get("/monitoring/health/ready")).json()
    health = (await client.get("/monitoring/health")).json()["detail"]

    assert ready["status"] == "degraded"
    check = health["checks"]["source"]
    assert check == {
        "status": "degraded",
        "message": "Yahoo refuses (429), tried again in 10 s",
    }


async def test_a_source_that_answers_is_ok(client: httpx.AsyncClient) -> None:
    body = (await client.get("/health/ready")).json()

    assert body["status"] == "ready"
    assert body["checks"]["source"]["status"] == "ok"


async def test_an_error_of_the_source_says_its_cause_and_when_to_ask_again(
    client: httpx.AsyncClient, local: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = SourceUnavailable("Yahoo's name cannot be resolved (DNS)", "dns", 7.4)

    async def away(symbols: list[str]) -> dict[str, Quote | SourceUnavailable]:
        return dict.fromkeys(symbols, error)

    async def raising(*_: object) -> Awaitable[None]:
        raise error

    monkeypatch.setattr(local.feed, "quotes", away)
    monkeypatch.setattr(local.feed, "info", raising)

    quotes = (await client.get("/api/v2/quotes?symbols=TSLA")).json()
    info = await client.get("/api/v2/symbols/AAPL")

    context = {"cause": "dns", "text": error.text, "retry_after_s": 7.4}
    assert quotes["errors"]["TSLA"]["context"] == context
    assert quotes["errors"]["TSLA"]["code"] == "source_unavailable"
    assert info.status_code == 503
    assert info.headers["retry-after"] == "7"
    assert info.json()["detail"]["context"] == context
