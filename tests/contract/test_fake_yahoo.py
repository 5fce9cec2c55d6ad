"""The fake Yahoo behaves as the real one is known to, and yfinance cannot tell them apart."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import numpy as np
import orjson
import pytest

from infra.bars import Bars, Floats, Ints
from infra.errors import SourceMalformed, SymbolUnknown
from infra.periods import day_ns
from infra.sources.replay import Record, load_records
from infra.sources.yahoo.parse import Chart, parse_chart, parse_quotes, quote_infos
from infra.sources.yahoo.pricing import decode_message
from tests.fakes.yahoo import MID_SESSION_S, FakeYahoo, serving_in_thread, yfinance_session
from tests.fakes.yahoo_data import DAY_S, Listing, Market
from tests.fakes.yahoo_faults import (
    ConsentRedirect,
    Fault,
    Hang,
    Html,
    LiveRowTwice,
    NanRows,
    NullResult,
    OutOfOrderRows,
    Status,
    Truncated,
)

T = TypeVar("T")
RECORDS = load_records()
AFTER_CLOSE_S = MID_SESSION_S + 2 * 3600
FRIDAY = date(2013, 3, 1)
SPLIT_DAY = date(2005, 2, 28)
OHLC = ("open", "high", "low", "close")


@pytest.fixture
async def fake() -> AsyncIterator[FakeYahoo]:
    async with FakeYahoo(Market(RECORDS)) as fake:
        yield fake


@pytest.fixture
async def session(fake: FakeYahoo) -> AsyncIterator[aiohttp.ClientSession]:
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(fake.url, cookie_jar=jar) as session:
        yield session


async def get_chart(session: aiohttp.ClientSession, symbol: str = "AAPL", **query: str) -> bytes:
    path = f"/v8/finance/chart/{symbol}"
    async with session.get(path, params={"range": "max", "interval": "1d"} | query) as answer:
        return await answer.read()


async def chart_of(
    fake: FakeYahoo, session: aiohttp.ClientSession, symbol: str = "AAPL", **query: str
) -> Chart:
    return parse_chart(await get_chart(session, symbol, **query), symbol, fake.now_s)


async def get_quotes(fake: FakeYahoo, session: aiohttp.ClientSession, symbols: str) -> bytes:
    async with session.get("/fc"):
        pass
    query = {"symbols": symbols, "crumb": fake.crumb}
    async with session.get("/v7/finance/quote", params=query) as answer:
        assert answer.status == 200
        return await answer.read()


def flat_bars(opened_at_ns: Ints, price: Floats) -> Bars:
    return Bars(opened_at_ns, price, price, price, price, np.full(len(price), 30, np.int64))


def product_after(steps: Any) -> Any:
    return np.array([np.prod(steps[row + 1 :]) for row in range(len(steps))])


# -- charts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("symbol", ["AAPL", "MSFT", "GOOGL", "^GSPC"])
async def test_a_chart_gives_the_traded_bars_and_factors_back(
    fake: FakeYahoo, session: aiohttp.ClientSession, symbol: str
) -> None:
    fake.now_s = AFTER_CLOSE_S
    record = RECORDS[symbol]

    chart = await chart_of(fake, session, symbol)

    history = chart.history
    for name in OHLC:
        np.testing.assert_allclose(
            getattr(history.bars, name), getattr(record.bars, name), rtol=1e-9
        )
    assert history.bars.volume.tolist() == record.bars.volume.tolist()
    assert history.bars.opened_at_ns.tolist() == record.bars.opened_at_ns.tolist()
    np.testing.assert_allclose(
        history.price_factor, 1 / product_after(record.price_step), rtol=1e-9
    )
    np.testing.assert_allclose(history.volume_factor, product_after(record.split), rtol=1e-12)
    assert chart.rejected == {}


async def test_a_chart_is_adjusted_for_later_splits(
    fake: FakeYahoo, session: aiohttp.ClientSession
) -> None:
    result = orjson.loads(await get_chart(session))["chart"]["result"][0]

    row = RECORDS["AAPL"].bars.opened_at_ns.tolist().index(day_ns(SPLIT_DAY)) - 1

    # The Friday before: 88.99 dollars a share, of which two were given for one.
    assert result["indicators"]["quote"][0]["close"][row] == pytest.approx(44.495)
    split = [e for e in result["events"]["splits"].values() if e["splitRatio"] == "2:1"][-1]
    assert datetime.fromtimestamp(split["date"], UTC).date() == SPLIT_DAY


async def test_the_parsed_actions_are_those_of_the_data(
    fake: FakeYahoo, session: aiohttp.ClientSession
) -> None:
    actions = (await chart_of(fake, session)).actions

    assert [(a.kind, a.ex_date.isoformat()) for a in actions] == [
        ("split", "2000-06-21"),
        ("split", "2005-02-28"),
        ("dividend", "2012-08-09"),
        ("dividend", "2012-11-07"),
        ("dividend", "2013-02-07"),
    ]
    # Apple paid 2.65 dollars each time; here they follow from rounded adjusted closes.
    assert [a.value for a in actions[2:]] == pytest.approx([2.65] * 3, abs=0.2)
    assert [a.price_step for a in actions[2:]] == pytest.approx(
        [1.004269, 1.004749, 1.005660], abs=1e-6
    )


async def test_the_data_end_at_the_fakes_time(
    fake: FakeYahoo, session: aiohttp.ClientSession
) -> None:
    fake.now_s = datetime(2005, 2, 25, 22, tzinfo=UTC).timestamp()
    before = (await chart_of(fake, session)).history

    fake.now_s = datetime(2005, 2, 28, 22, tzinfo=UTC).timestamp()
    after = (await chart_of(fake, session)).history

    assert before.volume_factor[-1] == 1.0
    assert after.volume_factor[-2] == 2.0
    assert after.bars.session(len(after.bars) - 1) == SPLIT_DAY
    assert after.bars.close[-2] == pytest.approx(before.bars.close[-1], rel=1e-9)


async def test_the_session_under_way_grows_to_the_real_bar(
    fake: FakeYahoo, session: aiohttp.ClientSession
) -> None:
    under_way = (await chart_of(fake, session)).history
    fake.now_s = AFTER_CLOSE_S
    over = (await chart_of(fake, session)).history

    so_far, real = under_way.open_bar, RECORDS["AAPL"].bars[-1:]
    assert so_far.session(0) == FRIDAY
    assert so_far.open[0] == real.open[0]
    assert real.low[0] <= so_far.low[0] <= so_far.close[0] <= so_far.high[0] <= real.high[0]
    assert 0 < so_far.volume[0] < real.volume[0]
    assert len(over.open_bar) == 0
    assert over.bars.volume[-1] == real.volume[0]
    assert over.data_version != under_way.data_version


async def test_minutes_make_the_sessions_bar(
    fake: FakeYahoo, session: aiohttp.ClientSession
) -> None:
    fake.now_s = AFTER_CLOSE_S

    history = (await chart_of(fake, session, range="1d", interval="1m")).history

    bars, real = history.bars, RECORDS["AAPL"].bars[-1:]
    assert len(bars) == 390
    assert (bars.open[0], bars.close[-1]) == (real.open[0], real.close[0])
    assert (bars.high.max(), bars.low.min()) == (real.high[0], real.low[0])
    assert bars.volume.sum() == real.volume[0]
    assert np.unique(np.diff(bars.opened_at_ns)).tolist() == [60 * 10**9]


@pytest.mark.parametrize("interval", ["1m", "5m", "90m"])
async def test_the_bar_under_way_is_open(
    fake: FakeYahoo, session: aiohttp.ClientSession, interval: str
) -> None:
    fake.now_s = MID_SESSION_S + 20

    history = (await chart_of(fake, session, range="5d", interval=interval)).history

    assert len(history.open_bar) == 1
    assert history.open_bar.opened_at_ns[0] <= fake.now_s * 1e9
    assert len({history.bars.session(row) for row in range(len(history.bars))}) == 5


async def test_minutes_before_a_split_are_as_traded(
    fake: FakeYahoo, session: aiohttp.ClientSession
) -> None:
    fake.now_s = datetime(2005, 2, 28, 22, tzinfo=UTC).timestamp()

    history = (await chart_of(fake, session, range="5d", interval="60m")).history

    assert history.bars.close[-8] == pytest.approx(88.99)  # Friday's last
    assert history.bars.close[-1] == pytest.approx(44.86)


async def test_bars_that_a_test_sets_are_served(
    fake: FakeYahoo, session: aiohttp.ClientSession
) -> None:
    days = np.array([day_ns(date(2013, 2, 28)), day_ns(FRIDAY)], np.int64)
    daily = flat_bars(days, np.array([90.0, 9.0]))
    london = Listing("ABC.L", "ABC plc", currency="GBp", exchange="LSE", time_zone="Europe/London")
    fake.set_bars("ABC.L", "1d", daily, split=np.array([1.0, 10.0]), listing=london)
    stamps = np.array([datetime(2013, 2, 28, 12, tzinfo=UTC).timestamp()]).astype(np.int64)
    five = flat_bars(stamps * 10**9, np.array([91.0]))
    fake.set_bars("ABC.L", "5m", five)

    chart = await chart_of(fake, session, "ABC.L")
    minutes = (await chart_of(fake, session, "ABC.L", range="5d", interval="5m")).history

    assert chart.history.bars.close.tolist() == [90.0, 9.0]
    assert chart.info.major_currency == "GBP"
    assert minutes.bars.close.tolist() == pytest.approx([91.0])
    assert minutes.volume_factor.tolist() == [10.0]


async def test_longer_bars_are_made_of_days(
    fake: FakeYahoo, session: aiohttp.ClientSession
) -> None:
    weeks = orjson.loads(await get_chart(session, interval="1wk", range="1mo"))
    days = orjson.loads(await get_chart(session, interval="1d", range="5d"))

    last = weeks["chart"]["result"][0]["indicators"]["quote"][0]
    week = days["chart"]["result"][0]["indicators"]["quote"][0]
    assert last["volume"][-1] == sum(week["volume"])
    assert last["high"][-1] == max(week["high"])


async def test_a_span_gives_its_rows_alone(
    fake: FakeYahoo, session: aiohttp.ClientSession
) -> None:
    start = int(datetime(2012, 8, 8, tzinfo=UTC).timestamp())
    query = {"period1": str(start), "period2": str(start + 3 * DAY_S)}

    async with session.get("/v8/finance/chart/AAPL", params=query | {"interval": "1d"}) as answer:
        result = (await answer.json())["chart"]["result"][0]

    assert len(result["timestamp"]) == 3
    assert len(result["events"]["dividends"]) == 1


@pytest.mark.parametrize(
    ("symbol", "query", "status", "code"),
    [
        ("NOPE", {}, 404, "Not Found"),
        ("META", {"now": "2012-05-01"}, 404, "Not Found"),  # not listed yet
        ("AAPL", {"range": "7x"}, 422, "Unprocessable Entity"),
        ("AAPL", {"interval": "3m"}, 422, "Unprocessable Entity"),
        ("AAPL", {"range": "1mo", "interval": "1m"}, 422, "Unprocessable Entity"),
        ("AAPL", {"range": "6mo", "interval": "5m"}, 422, "Unprocessable Entity"),
    ],
)
async def test_what_yahoo_has_not_it_refuses_in_its_own_words(
    fake: FakeYahoo,
    session: aiohttp.ClientSession,
    symbol: str,
    query: dict[str, str],
    status: int,
    code: str,
) -> None:
    if "now" in query:
        fake.now_s = datetime.fromisoformat(query["now"]).replace(tzinfo=UTC).timestamp()

    async with session.get(f"/v8/finance/chart/{symbol}", params=query) as answer:
        body = await answer.read()

    assert answer.status == status
    assert orjson.loads(body)["chart"]["error"]["code"] == code
    expected = SymbolUnknown if status == 404 else SourceMalformed
    with pytest.raises(expected):
        parse_chart(body, symbol, fake.now_s)


# -- quotes, cookie and crumb ---------------------------------------------------------------


async def test_quotes_need_the_cookie_and_its_crumb(
    fake: FakeYahoo, session: aiohttp.ClientSession
) -> None:
    async def status(path: str, **query: str) -> int:
        async with session.get(path, params=query) as answer:
            return answer.status

    assert await status("/v1/test/getcrumb") == 401
    assert await status("/v7/finance/quote", symbols="AAPL", crumb=fake.crumb) == 401
    assert await status("/") == 404  # and it sets the cookie
    async with session.get("/v1/test/getcrumb") as answer:
        crumb = await answer.text()
    assert await status("/v7/finance/quote", symbols="AAPL", crumb="wrong") == 401
    assert await status("/v7/finance/quote", symbols="AAPL", crumb=crumb) == 200
    fake.crumb = "another.one"
    assert await status("/v7/finance/quote", symbols="AAPL", crumb=crumb) == 401
    assert fake.requests == {"cookie": 1, "crumb": 2, "quote": 4}


async def test_quotes_agree_with_the_chart(
    fake: FakeYahoo, session: aiohttp.ClientSession
) -> None:
    body = await get_quotes(fake, session, "MSFT,NOPE,AAPL")
    history = (await chart_of(fake, session)).history

    quotes = parse_quotes(body, ["AAPL", "NOPE"], 1)
    infos = quote_infos(body, 1)

    quote, bar = quotes["AAPL"], history.open_bar
    assert not isinstance(quote, Exception)
    assert isinstance(quotes["NOPE"], SymbolUnknown)
    assert quote.price == bar.close[0]
    assert (quote.open, quote.high, quote.low) == (bar.open[0], bar.high[0], bar.low[0])
    assert quote.volume == bar.volume[0]
    assert quote.previous_close == history.bars.close[-1]
    assert quote.traded_at_ns == MID_SESSION_S * 1e9
    assert (quote.session, quote.market_status) == (FRIDAY, "open")
    assert infos["MSFT"].name == "Microsoft Corporation"
    assert fake.log[1][:2] == ("quote", ("MSFT", "NOPE", "AAPL"))


@pytest.mark.parametrize(
    ("now", "state"),
    [
        ("2013-03-01T03:00-05:00", "PREPRE"),
        ("2013-03-01T08:00-05:00", "PRE"),
        ("2013-03-01T09:30-05:00", "REGULAR"),
        ("2013-03-01T16:00-05:00", "POST"),
        ("2013-03-01T21:00-05:00", "POSTPOST"),
        ("2013-03-02T12:00-05:00", "CLOSED"),
    ],
)
async def test_the_market_has_its_hours(
    fake: FakeYahoo, session: aiohttp.ClientSession, now: str, state: str
) -> None:
    fake.now_s = datetime.fromisoformat(now).timestamp()

    row = orjson.loads(await get_quotes(fake, session, "AAPL"))["quoteResponse"]["result"][0]
    history = (await chart_of(fake, session)).history

    assert row["marketState"] == state
    assert len(history.open_bar) == int(state == "REGULAR")
    last_day = history.bars.session(len(history.bars) - 1)
    assert (last_day < FRIDAY) == (state in ("PREPRE", "PRE", "REGULAR"))


async def test_a_test_can_change_fields_of_a_quote(
    fake: FakeYahoo, session: aiohttp.ClientSession
) -> None:
    fake.quote_fields["AAPL"] = {"regularMarketPrice": 555.5, "regularMarketOpen": None}

    row = orjson.loads(await get_quotes(fake, session, "AAPL"))["quoteResponse"]["result"][0]

    assert row["regularMarketPrice"] == 555.5
    assert "regularMarketOpen" not in row


# -- faults ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status", "in_body"),
    [
        (Status(429, retry_after=17), 429, b"Too Many Requests"),
        (Status(401), 401, b"Unauthorized"),
        (Status(500), 500, b"Internal"),
        (ConsentRedirect(), 302, b""),
        (Html(), 200, b"Will be right back"),
        (NullResult(), 200, b'"result":null'),
    ],
)
async def test_a_fault_is_the_answer_once(
    fake: FakeYahoo,
    session: aiohttp.ClientSession,
    fault: Fault,
    status: int,
    in_body: bytes,
) -> None:
    fake.fail("chart", fault)

    async with session.get("/v8/finance/chart/AAPL", allow_redirects=False) as answer:
        body = await answer.read()
    async with session.get("/v8/finance/chart/AAPL") as second:
        pass

    assert answer.status == status
    assert in_body in body
    assert answer.headers.get("Retry-After") == ("17" if status == 429 else None)
    assert second.status == 200


async def test_faults_come_in_order_and_the_last_may_stay(
    fake: FakeYahoo, session: aiohttp.ClientSession
) -> None:
    fake.fail("chart", Status(500), Status(429), forever=True)

    async def status() -> int:
        async with session.get("/v8/finance/chart/AAPL") as answer:
            return answer.status

    assert [await status() for _ in range(4)] == [500, 429, 429, 429]
    fake.heal()
    assert await status() == 200


async def test_a_truncated_answer_breaks_off(
    fake: FakeYahoo, session: aiohttp.ClientSession
) -> None:
    fake.fail("chart", Truncated())

    with pytest.raises(aiohttp.ClientPayloadError):
        await get_chart(session)


async def test_a_request_hangs_until_it_is_released(
    fake: FakeYahoo, session: aiohttp.ClientSession
) -> None:
    fake.fail("chart", Hang())
    waiting = asyncio.create_task(get_chart(session))
    await until(lambda: fake.requests["chart"] == 1)

    assert not waiting.done()
    fake.release()

    async with asyncio.timeout(5):
        assert b'"meta"' in await waiting


async def test_rows_that_make_no_sense_are_left_out_by_the_parser(
    fake: FakeYahoo, session: aiohttp.ClientSession
) -> None:
    right = await chart_of(fake, session, range="1mo")
    fake.fail("chart", NanRows(), OutOfOrderRows(), LiveRowTwice())

    lacking = await chart_of(fake, session, range="1mo")
    mixed = await chart_of(fake, session, range="1mo")
    repeated = await chart_of(fake, session, range="1mo")

    rows = len(right.history.bars) + 1
    assert lacking.rejected == {"null": (rows + 2) // 3}
    assert len(lacking.history.bars) + len(lacking.history.open_bar) == rows - (rows + 2) // 3
    assert mixed.rejected == {"out_of_order": 1}
    assert mixed.history.data_version == right.history.data_version
    assert repeated.rejected == {}
    assert repeated.history.data_version == right.history.data_version
    assert len(repeated.history.open_bar) == 1


# -- the streamer ---------------------------------------------------------------------------


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_a_stream_brings_the_ticks_of_subscribed_symbols(
    fake: FakeYahoo, session: aiohttp.ClientSession
) -> None:
    async with session.ws_connect(fake.stream_url) as stream:
        await stream.send_json({"subscribe": ["AAPL", "MSFT"]})
        await stream.send_json({"unsubscribe": ["MSFT"]})
        await until(lambda: fake.subscriptions == {"AAPL"})

        unheard = await fake.send_tick("MSFT", 28.0)
        heard = await fake.send_tick("AAPL", 430.47, 1_362_168_000_123, 1_000, day_high=438.18)
        tick = decode_message(await stream.receive_str(timeout=5))

    assert (unheard, heard) == (0, 1)
    assert tick is not None
    assert (tick.symbol, tick.price, tick.day_high) == ("AAPL", 430.47, 438.18)
    assert (tick.at_ns, tick.day_volume) == (1_362_168_000_123_000_000, 1_000)
    assert fake.stream_connections == 1
    await until(lambda: not fake.subscriptions)


async def test_a_mute_streamer_says_nothing(
    fake: FakeYahoo, session: aiohttp.ClientSession
) -> None:
    async with session.ws_connect(fake.stream_url) as stream:
        await stream.send_json({"subscribe": ["AAPL"]})
        await until(lambda: fake.subscriptions == {"AAPL"})
        fake.mute = True
        assert await fake.send_tick("AAPL", 1.0) == 0
        fake.mute = False
        assert await fake.send_tick("AAPL", 2.0) == 1

        tick = decode_message(await stream.receive_str(timeout=5))

    assert tick is not None
    assert tick.price == 2.0


async def test_streams_end_cleanly_or_not(fake: FakeYahoo, session: aiohttp.ClientSession) -> None:
    async with session.ws_connect(fake.stream_url) as clean:
        await until(lambda: fake.stream_connections == 1)
        closing = asyncio.create_task(fake.close_streams())
        assert (await clean.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE
        await closing
        assert clean.close_code == 1001

    async with session.ws_connect(fake.stream_url) as abrupt:
        await until(lambda: fake.stream_connections == 2)
        fake.abort_streams()
        message = await abrupt.receive(timeout=5)
        assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        assert abrupt.close_code == 1006


async def test_a_stream_can_be_refused(fake: FakeYahoo, session: aiohttp.ClientSession) -> None:
    fake.fail("stream", Status(503))

    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await session.ws_connect(fake.stream_url)

    assert caught.value.status == 503


# -- other ways to run it -------------------------------------------------------------------


async def test_it_serves_by_tls(tmp_path: Path) -> None:
    certificate = pytest.importorskip("tests.fakes.certificate", exc_type=ImportError)
    server, client = certificate.loopback_contexts(tmp_path)

    async with (
        FakeYahoo(Market({"AAPL": RECORDS["AAPL"]}), tls=server) as fake,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client)) as session,
    ):
        async with session.get(f"{fake.url}/v8/finance/chart/AAPL") as answer:
            assert answer.status == 200
        async with session.ws_connect(fake.stream_url):
            pass

    assert fake.url.startswith("https://")
    assert fake.stream_url.startswith("wss://")


def test_it_serves_from_a_thread() -> None:
    import httpx

    with (
        serving_in_thread(market=Market({"AAPL": RECORDS["AAPL"]})) as fake,
        httpx.Client(base_url=fake.url, trust_env=False) as http,
    ):
        fake.fail("chart", Status(500))
        statuses = [http.get("/v8/finance/chart/AAPL").status_code for _ in range(2)]

    assert statuses == [500, 200]


def test_the_data_can_end_today() -> None:
    market = Market.until(date(2025, 7, 6))  # a Sunday after a holiday

    book = market.books["AAPL"]
    assert book.days[-2:] == [date(2025, 7, 2), date(2025, 7, 3)]
    assert book.record.bars.close.tolist() == RECORDS["AAPL"].bars.close.tolist()
    assert isinstance(book.record, Record)


# -- yfinance -------------------------------------------------------------------------------


@pytest.fixture
def yf_session(fake: FakeYahoo, tmp_path: Path) -> Iterator[Any]:
    import yfinance
    from yfinance.data import SingletonMeta, YfData

    yfinance.set_tz_cache_location(str(tmp_path))
    SingletonMeta._instances.clear()
    YfData.cache_get.cache_clear()
    with yfinance_session(fake.url) as session:
        yield session
    SingletonMeta._instances.clear()


async def in_thread(work: Callable[[], T]) -> T:
    def quietly() -> T:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # yfinance's own
            return work()

    return await asyncio.to_thread(quietly)


async def test_yfinance_reads_history_from_the_fake(fake: FakeYahoo, yf_session: Any) -> None:
    import yfinance

    fake.now_s = AFTER_CLOSE_S

    frame = await in_thread(
        lambda: yfinance.Ticker("AAPL", session=yf_session).history(
            period="1mo", auto_adjust=False
        )
    )

    bars = RECORDS["AAPL"].bars[-len(frame) :]
    assert len(frame) > 15
    assert frame["Close"].to_numpy() == pytest.approx(bars.close)
    assert frame["Dividends"].sum() == pytest.approx(2.65, abs=0.1)
    factor = (frame["Adj Close"] / frame["Close"]).to_numpy()
    assert (factor[0], factor[-1]) == (pytest.approx(1 / 1.005660, abs=1e-6), 1.0)
    assert [stamp.date() for stamp in frame.index][-1] == FRIDAY


async def test_yfinance_reads_news_search_and_figures_from_the_fake(
    fake: FakeYahoo, yf_session: Any
) -> None:
    import yfinance

    ticker = yfinance.Ticker("AAPL", session=yf_session)
    news = await in_thread(lambda: ticker.get_news(count=3))
    found = await in_thread(lambda: yfinance.Search("micro", session=yf_session).quotes)
    info = await in_thread(lambda: ticker.info)
    income = await in_thread(lambda: ticker.income_stmt)

    assert [item["content"]["title"] for item in news] == [
        f"Made headline {number} on AAPL" for number in (1, 2, 3)
    ]
    assert [row["symbol"] for row in found] == ["MSFT"]
    assert info["industry"] == "Consumer Electronics"
    assert info["longName"] == "Apple Inc."
    assert income.loc["Total Revenue"].tolist() == [156_508e6, 108_249e6]
    assert fake.requests["summary"] >= 1
    assert fake.requests["timeseries"] >= 1
