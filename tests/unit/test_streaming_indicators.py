"""Live indicators: who gets which, bars from ticks, and what is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
import pytest
import talib

from actors.indicators.expressions import Call
from actors.indicators.streaming.alert_filter import (
    AlertFilter,
    Candidate,
    TrackRecord,
    quality_score,
)
from actors.indicators.streaming.indicators import LiveIndicators
from actors.indicators.streaming.leases import RSI, SMA20, STANDARD, Subject, live_sets
from actors.indicators.streaming.open_bar import Bar, OpenBar
from actors.indicators.streaming.worker import Links, LiveWorker
from actors.indicators.tables import LiveWant
from infra.bars import NS_PER_DAY, NS_PER_MINUTE, Bars
from infra.calendars import calendar_for
from infra.clock import FakeClock
from infra.errors import (
    ActorUnavailable,
    ExpressionInvalid,
    FinstageError,
    ParameterInvalid,
    RangeInvalid,
    SymbolUnknown,
)
from infra.messages import BARS, ENDED, PRICES, TECHNICAL, Kind, Message
from infra.sources.facts import SourceFacts
from tests.contract.test_live_indicators import random_bars

COIN = "BTC-USD"  # trades round the clock
MINUTE = "1m"
FACTS = SourceFacts("simulated", True, ("1m", "5m", "1d"))
START_NS = 19_600 * NS_PER_DAY
EMPTY = random_bars(1, 0)


def minutes(count: int, seed: int = 1) -> Bars:
    made = random_bars(seed, count)
    stamps = START_NS + np.arange(count, dtype=np.int64) * NS_PER_MINUTE
    return Bars(stamps, made.open, made.high, made.low, made.close, made.volume)


def price(at_ns: int, value: float, volume: int = 0, symbol: str = COIN) -> dict[str, Any]:
    at = datetime.fromtimestamp(at_ns / 1e9, UTC)
    return {
        "symbol": symbol,
        "timestamp": at.isoformat(timespec="milliseconds"),
        "session": at.date().isoformat(),
        "current_price": value,
        "open": value,
        "high": value + 1,
        "low": value - 1,
        "volume": volume,
        "data_version": "v1",
        "previous_close": None,
        "session_part": "regular",
        "source": "simulated",
        "stale": False,
        "synthetic": True,
    }


def minute_update(bars: Bars, row: int, revision: int = 0) -> dict[str, Any]:
    at = datetime.fromtimestamp(int(bars.opened_at_ns[row]) // 10**9, UTC)
    values = {n: float(getattr(bars, n)[row]) for n in ("open", "high", "low", "close")}
    volume = int(bars.volume[row])
    return (
        {"symbol": COIN, "timestamp": at.isoformat(), "volume": volume}
        | values
        | {"revision": revision}
    )


class Held:
    """Histories of tests."""

    def __init__(self) -> None:
        self.bars: dict[tuple[str, str], Bars] = {}
        self.open: dict[tuple[str, str], Bars] = {}

    def of(self, symbol: str, interval: str) -> Bars:
        if (symbol, interval) not in self.bars:
            raise SymbolUnknown(symbol)
        return self.bars[symbol, interval]


def desk_of(bars: Bars, interval: str, symbol: str = COIN) -> tuple[LiveIndicators, Subject, Held]:
    held = Held()
    held.bars[symbol, interval] = bars
    desk = LiveIndicators(held.of, 64)
    subject = Subject(symbol, interval)
    desk.leases.want(subject, STANDARD, 60.0)
    for _ in desk.warming(interval):
        pass
    desk.hold(subject, EMPTY)
    return desk, subject, held


def ticks_of(bars: Bars, row: int, day_volume: int) -> Iterator[dict[str, Any]]:
    """Play a minute: open, low, high, close, with the session's volume so far."""
    opened_ns = int(bars.opened_at_ns[row])
    values = [float(getattr(bars, n)[row]) for n in ("open", "low", "high", "close")]
    for part, value in enumerate(values):
        volume = day_volume + int(bars.volume[row]) * (part + 1) // 4
        yield price(opened_ns + part * 14 * 10**9, value, volume)


# -- what can be wanted ------------------------------------------------------------------------


def test_the_standard_sets_come_with_every_want() -> None:
    assert live_sets("", "1d") == STANDARD
    assert live_sets("sma(20),ema(9)", "1d") == (*STANDARD, Call("ema", (9.0,)))


@pytest.mark.parametrize(
    ("indicators", "interval", "error"),
    [
        ("cdlengulfing", "1d", ParameterInvalid),
        ("nonsense", "1d", ParameterInvalid),
        ("ema(1e9)", "1d", RangeInvalid),
        ("ema(", "1d", ExpressionInvalid),
        ("vwap", "1d", RangeInvalid),
    ],
)
def test_what_cannot_be_live_is_said(
    indicators: str, interval: str, error: type[FinstageError]
) -> None:
    with pytest.raises(error):
        live_sets(indicators, interval)
    if error is RangeInvalid and indicators == "vwap":
        assert live_sets("vwap", "5m")[-1].name == "vwap"


def test_no_more_sets_than_the_limit_are_live() -> None:
    desk = LiveIndicators(Held().of, len(STANDARD) + 1)
    desk.leases.want(Subject("A", "1d"), STANDARD, 60.0)
    desk.leases.want(Subject("B", "1d"), live_sets("ema(9)", "1d"), 60.0)
    with pytest.raises(RangeInvalid, match=r"7 sets are live at most.*FINSTAGE_LIVE_SETS"):
        desk.leases.want(Subject("A", "1d"), live_sets("ema(10)", "1d"), 60.0)
    with pytest.raises(RangeInvalid):
        desk.leases.want(Subject("A", "5m"), STANDARD, 60.0)
    assert not desk.leases.sets(Subject("A", "5m"))


def test_what_nobody_wants_is_let_go() -> None:
    desk, subject, _ = desk_of(minutes(50), MINUTE)
    desk.leases.want(subject, live_sets("ema(9)", MINUTE), 90.0)
    list(desk.warming(MINUTE))

    assert desk.review(70.0) == []
    assert set(desk.leases.sets(subject)) == {*STANDARD, Call("ema", (9.0,))}
    assert desk.review(90.0) == [subject]
    assert not desk.is_held(subject)
    assert tuple(desk.symbols) == ()


# -- bars --------------------------------------------------------------------------------------


@pytest.mark.parametrize("told_minutes", [False, True])
def test_ticks_make_the_values_of_the_bars_that_they_make(told_minutes: bool) -> None:
    bars = minutes(400)
    desk, subject, _ = desk_of(bars[:300], MINUTE)
    day_volume = 0
    for row in range(300, 400):
        for tick in ticks_of(bars, row, day_volume):
            desk.take([tick])
        day_volume += int(bars.volume[row])
        so_far = desk.update_of(subject)["values"]
        wanted = talib.RSI(bars.close[: row + 1], 14)[-1]
        assert so_far["rsi(14)"]["rsi"] == pytest.approx(wanted, rel=1e-9)
        if told_minutes:
            desk.take_minute(minute_update(bars, row))
            assert desk.update_of(subject)["bar"]["closed"] is True
    final = desk.update_of(subject)["data"]["indicators"]
    assert final["rsi"]["previous"] == pytest.approx(talib.RSI(bars.close[:-1], 14)[-1])
    assert final["sma"]["20"] == pytest.approx(bars.close[-20:].mean())
    assert final["macd"]["signal"] == pytest.approx(talib.MACD(bars.close)[1][-1])


def test_volume_of_a_minute_is_what_the_session_grew_by() -> None:
    bar = OpenBar(calendar_for(COIN), MINUTE)
    bar.take(price(START_NS + 1, 5.0, 1_000))  # of what was before nothing is known
    bar.take(price(START_NS + 10**9, 6.0, 1_030))
    closed = bar.take(price(START_NS + NS_PER_MINUTE, 4.0, 1_100))

    assert closed == Bar(START_NS, 5.0, 6.0, 5.0, 6.0, 30.0)
    assert bar.bar == Bar(START_NS + NS_PER_MINUTE, 4.0, 4.0, 4.0, 4.0, 70.0)
    assert bar.missed  # the first bar was looked at only from its middle on
    bar.take(price(START_NS + NS_PER_DAY, 4.0, 7))
    assert bar.bar is not None
    assert bar.bar.volume == 7.0


def test_a_revised_minute_changes_the_values_after_it() -> None:
    bars = minutes(330)
    desk, subject, _ = desk_of(bars[:300], MINUTE)
    for row in range(300, 330):
        assert desk.take_minute(minute_update(bars, row)) == [subject]
    close = bars.close.copy()
    close[320] *= 1.01
    revised = Bars(bars.opened_at_ns, bars.open, bars.high, bars.low, close, bars.volume)

    assert desk.take_minute(minute_update(revised, 320, 1)) == [subject]

    rsi = desk.update_of(subject)["values"]["rsi(14)"]["rsi"]
    assert rsi == pytest.approx(talib.RSI(close, 14)[-1], rel=1e-9)
    assert desk.take_minute(minute_update(revised, 320, 1)) == []


def test_a_history_fetched_again_takes_the_place_of_what_ticks_made() -> None:
    bars = minutes(320)
    desk, subject, held = desk_of(bars[:300], MINUTE)
    desk.take(list(ticks_of(bars, 302, 0)))  # two minutes were missed
    desk.take(list(ticks_of(bars, 303, 10**7)))
    assert desk.outdated == {subject}

    held.bars[COIN, MINUTE] = bars[:303]
    desk.hold(subject, EMPTY)

    found = desk.update_of(subject)
    assert found["values"]["sma(20)"]["sma"] == pytest.approx(bars.close[284:304].mean())
    assert found["bar"]["closed"] is False


def test_bars_that_closed_since_the_history_count_for_a_new_indicator() -> None:
    bars = minutes(330)
    desk, subject, _ = desk_of(bars[:300], MINUTE)
    for row in range(300, 330):
        desk.take_minute(minute_update(bars, row))
    desk.leases.want(subject, live_sets("ema(9)", MINUTE), 90.0)

    list(desk.warming(MINUTE))

    ema = desk.update_of(subject)["values"]["ema(9)"]["ema"]
    assert ema == pytest.approx(talib.EMA(bars.close, 9)[-1], rel=1e-12)


def test_longer_bars_are_fetched_again_when_a_minute_of_theirs_is_another() -> None:
    bars = minutes(10)
    held = Held()
    held.bars[COIN, "5m"] = minutes(0)
    desk = LiveIndicators(held.of, 64)
    subject = Subject(COIN, "5m")
    desk.leases.want(subject, STANDARD, 60.0)
    desk.hold(subject, EMPTY)

    desk.take_minute(minute_update(bars, 3))
    assert not desk.outdated
    desk.take_minute(minute_update(bars, 3, revision=1))
    assert desk.outdated == {subject}


def test_the_five_minutes_of_a_tick_open_where_the_session_says() -> None:
    bar = OpenBar(calendar_for("AAPL"), "5m")
    at = datetime(2026, 11, 23, 14, 33, 20, tzinfo=UTC)  # 9:33:20 in New York
    bar.take(price(int(at.timestamp()) * 10**9, 5.0, symbol="AAPL"))
    assert bar.bar is not None
    assert (
        bar.bar.opened_at_ns == int(datetime(2026, 11, 23, 14, 30, tzinfo=UTC).timestamp()) * 10**9
    )
    before = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)  # the pre market makes no bars
    assert (
        OpenBar(calendar_for("AAPL"), "5m").take(price(int(before.timestamp()) * 10**9, 5.0))
        is None
    )


# -- what is told ------------------------------------------------------------------------------


def test_nothing_half_warmed_is_told() -> None:
    bars = minutes(12)
    desk, subject, _ = desk_of(bars, MINUTE)
    desk.take([price(START_NS + 12 * NS_PER_MINUTE, 100.0)])

    told = desk.update_of(subject)

    assert told["ready"] == dict.fromkeys(told["values"], False)
    assert all(v is None for outputs in told["values"].values() for v in outputs.values())
    indicators = told["data"]["indicators"]
    assert indicators["rsi"] == {"current": None, "previous": None, "signal": None}
    assert indicators["cross_signal"] is None
    orjson.dumps(told)


class Service:
    """A worker and all that it is linked to."""

    def __init__(self, histories: dict[tuple[str, str], Bars], limit: int = 64) -> None:
        self.held, self.clock = Held(), FakeClock(1_000.0)
        self.stored = histories
        self.published: list[Message] = []
        self.loads: list[tuple[str, str]] = []
        self.desk = LiveIndicators(self.held.of, limit)
        links = Links(
            self._load, lambda _: EMPTY, self._publish, self._follow, lambda _: "simulated"
        )
        self.worker = LiveWorker(self.desk, links, FACTS, self.clock, 60.0, self._ready)

    async def _ready(self) -> None:
        return

    async def _follow(self, symbols: Any) -> dict[str, FinstageError]:
        return {}

    async def _publish(self, messages: Any) -> None:
        self.published += messages

    async def _load(self, symbols: Any, interval: str) -> dict[str, FinstageError]:
        self.loads += [(symbol, interval) for symbol in symbols]
        for symbol in symbols:
            if (symbol, interval) in self.stored:
                self.held.bars[symbol, interval] = self.stored[symbol, interval]
        return {s: SymbolUnknown(s, []) for s in symbols if (s, interval) not in self.held.bars}

    def told(self) -> list[dict[str, Any]]:
        told = [orjson.loads(m.payload) for m in self.published]
        self.published.clear()
        return told

    async def work(self) -> None:
        """Do once what `run` does for ever."""
        running = asyncio.ensure_future(self.worker.run())
        for _ in range(20):
            await asyncio.sleep(0)
        if running.done():
            await running
        running.cancel()


async def test_a_want_loads_once_and_is_answered_with_values() -> None:
    service = Service({("A", "1d"): random_bars(3, 260)})
    want = LiveWant("A", "1d", "ema(9)")

    assert await service.worker.want([want, LiveWant("A")]) == {}
    assert await service.worker.want([want]) == {}

    assert service.loads == [("A", "1d")]
    (told,) = service.told()
    assert told["type"] == "technical_analysis_update"
    assert (told["source"], told["synthetic"]) == ("simulated", True)
    assert set(told["values"]) == {key.text for key in (*STANDARD, Call("ema", (9.0,)))}
    assert service.worker.values(want)["ready"]["sma(200)"] is True


async def test_each_want_has_its_own_error() -> None:
    service = Service({("A", "1d"): random_bars(3, 30)}, limit=6)
    bad = [LiveWant("NOPE"), LiveWant("A", "3m"), LiveWant("A", "1d", "zzz"),
           LiveWant("A", "1d", "ema(9)")]  # fmt: skip

    errors = await service.worker.want([*bad, LiveWant("A")])

    assert list(errors) != []
    assert set(errors) == set(bad)
    assert isinstance(errors[bad[0]], SymbolUnknown)
    assert isinstance(errors[bad[3]], RangeInvalid)
    assert [t["symbol"] for t in service.told()] == ["A"]


async def test_ticks_are_told_once_a_batch_and_only_of_what_is_wanted() -> None:
    service = Service({("A", "1d"): random_bars(3, 260)})
    await service.worker.want([LiveWant("A")])
    service.told()
    day_ns = int(service.held.of("A", "1d").opened_at_ns[-1]) + NS_PER_DAY
    for symbol in ("A", "B"):
        for value in (100.0, 101.0):
            body = price(day_ns, value, symbol=symbol)
            message = Message(PRICES + symbol, orjson.dumps(body))
            service.worker.on_message(message.kind, message)
    await service.work()

    (told,) = [t for t in service.told() if t["type"] == "technical_analysis_update"]

    closes = np.append(service.held.of("A", "1d").close, 101.0)
    assert told["values"]["sma(20)"]["sma"] == pytest.approx(closes[-20:].mean())
    assert told["data"]["indicators"]["rsi"]["current"] == pytest.approx(talib.RSI(closes, 14)[-1])
    assert told["bar"] == {"opened_at": told["bar"]["opened_at"], "closed": False, "close": 101.0}


async def test_what_ends_is_told_and_a_restart_tells_all_again() -> None:
    service = Service({("A", "1d"): random_bars(3, 60), (COIN, MINUTE): minutes(50)})
    await service.worker.want([LiveWant("A"), LiveWant(COIN, MINUTE)])
    service.told()

    service.worker.on_restart()
    await service.work()
    assert {t["symbol"] for t in service.told()} == {"A", COIN}
    await service.worker.review_now()
    assert service.loads.count((COIN, MINUTE)) == 2  # ticks may have been missed
    assert service.loads.count(("A", "1d")) == 1

    service.clock.advance(61.0)
    await service.worker.review_now()
    service.published.clear()
    await service.work()
    assert {m.payload for m in service.published} == {ENDED}
    assert not service.worker.has_demand


async def test_new_daily_bars_take_the_place_of_the_old() -> None:
    bars = random_bars(5, 261)
    service = Service({("A", "1d"): bars[:260]})
    await service.worker.want([LiveWant("A")])
    service.held.bars["A", "1d"] = bars
    body = orjson.dumps(price(int(bars.opened_at_ns[-1]) + NS_PER_DAY, 50.0, symbol="A"))

    service.worker.on_history("A", Message(PRICES + "A", body))
    await service.work()

    told = service.told()[-1]
    closes = np.append(bars.close, 50.0)
    assert told["values"]["sma(200)"]["sma"] == pytest.approx(closes[-200:].mean())


async def test_a_minute_that_is_told_closes_the_bar() -> None:
    bars = minutes(260)
    service = Service({(COIN, MINUTE): bars[:259]})
    await service.worker.want([LiveWant(COIN, MINUTE)])
    service.told()
    body = orjson.dumps(minute_update(bars, 259))
    service.worker.on_message(Kind.BARS, Message(BARS + COIN, body))
    await service.work()

    (told,) = service.told()
    assert told["bar"]["closed"] is True
    assert told["values"][RSI.text]["rsi"] == pytest.approx(talib.RSI(bars.close, 14)[-1])


async def test_symbols_that_nobody_wants_leave_their_rows() -> None:
    names = [f"S{n}" for n in range(150)]
    service = Service({(name, "1d"): random_bars(n, 60) for n, name in enumerate(names)})
    await service.worker.want([LiveWant(name) for name in names])
    service.clock.advance(40.0)
    await service.worker.want([LiveWant(name) for name in names[:10]])
    wanted = {name: service.worker.values(LiveWant(name))["values"] for name in names[:10]}
    before = service.desk._engines["1d"].state_bytes
    service.clock.advance(30.0)

    await service.worker.review_now()

    assert service.desk._engines["1d"].symbols == tuple(names[:10])
    assert service.desk._engines["1d"].state_bytes < before / 4
    assert {n: service.worker.values(LiveWant(n))["values"] for n in names[:10]} == wanted


async def ended(service: Service, symbol: str) -> None:
    """Let a symbol go as the actor does: its bars are forgotten last."""
    await service.worker.end(symbol)
    for key in [key for key in service.held.bars if key[0] == symbol]:
        del service.held.bars[key]


async def test_a_symbol_that_ends_takes_nothing_from_the_others() -> None:
    service = Service({("A", "1d"): random_bars(3, 60), ("B", "1d"): random_bars(4, 60)})
    await service.worker.want([LiveWant("A"), LiveWant("B")])
    await ended(service, "B")

    assert await service.worker.want([LiveWant("A", "1d", "ema(9),sma(250)")]) == {}

    with pytest.raises(SymbolUnknown):
        service.worker.values(LiveWant("B"))
    service.published.clear()
    await service.work()
    assert service.published == [Message(f"{TECHNICAL}B:1d", ENDED)]


@pytest.mark.parametrize("steps", [1, 4, 8, 12])
async def test_a_symbol_that_ends_while_sets_are_made_takes_nothing_from_the_others(
    monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr("actors.indicators.slices.LONGEST_S", -1.0)  # every step lets others on
    service = Service({(name, "1d"): random_bars(n, 60) for n, name in enumerate("ABC")})
    await service.worker.want([LiveWant("C")])
    wants = [LiveWant(name, "1d", "ema(9),atr,sma(7)") for name in "ABC"]

    making = asyncio.ensure_future(service.worker.want(wants))
    for _ in range(steps):
        await asyncio.sleep(0)
    await ended(service, "B")

    assert set(await making) <= {wants[1]}
    assert set(service.desk.subjects()) == {Subject("A", "1d"), Subject("C", "1d")}
    service.worker.on_restart()
    service.published.clear()
    await service.work()
    assert {m.topic for m in service.published if m.payload != ENDED} == {
        f"{TECHNICAL}A:1d",
        f"{TECHNICAL}C:1d",
    }


async def test_a_symbol_that_ends_when_it_was_loaded_is_unknown() -> None:
    service = Service({(name, "1d"): random_bars(n, 60) for n, name in enumerate("AB")})
    wants = [LiveWant("A"), LiveWant("B")]

    async def ending(symbols: Any) -> dict[str, FinstageError]:
        await ended(service, "B")
        return {}

    service.worker._links = replace(service.worker._links, follow=ending)
    errors = await service.worker.want(wants)

    assert list(errors) == wants[1:]
    assert isinstance(errors[wants[1]], SymbolUnknown)
    assert service.desk.subjects() == (Subject("A", "1d"),)


async def test_what_is_revised_while_bars_are_fetched_is_fetched_again() -> None:
    bars = minutes(50)
    service = Service({(COIN, "5m"): bars})
    await service.worker.want([LiveWant(COIN, "5m")])
    service.desk.take_minute(minute_update(bars, 3, revision=1))
    load = service.worker._links.load

    async def revising(symbols: Any, interval: str) -> dict[str, FinstageError]:
        errors = await load(symbols, interval)
        service.desk.take_minute(minute_update(bars, 4, revision=1))
        service.worker._links = replace(service.worker._links, load=load)
        return errors

    service.worker._links = replace(service.worker._links, load=revising)
    await service.worker.review_now()
    assert service.desk.outdated == {Subject(COIN, "5m")}
    service.clock.advance(16.0)
    await service.worker.review_now()

    assert not service.desk.outdated
    assert service.loads.count((COIN, "5m")) == 3


async def test_bars_are_fetched_later_while_the_feed_is_away() -> None:
    bars = minutes(50)
    service = Service({(COIN, "5m"): bars})
    await service.worker.want([LiveWant(COIN, "5m")])
    service.desk.take_minute(minute_update(bars, 3, revision=1))
    links = service.worker._links

    async def away(symbols: Any, interval: str) -> dict[str, FinstageError]:
        raise ActorUnavailable("feed", 5.0)

    service.worker._links = replace(links, load=away)
    await service.worker.review_now()
    assert service.desk.outdated == {Subject(COIN, "5m")}
    service.worker._links = links
    service.clock.advance(16.0)
    await service.worker.review_now()

    assert not service.desk.outdated


async def test_a_signal_without_a_tick_is_no_alert_and_no_failure() -> None:
    bars = random_bars(3, 260)
    service = Service({("A", "1d"): bars})
    last = float(bars.close[-1])
    prices = np.array([last * 2])  # above every band
    jump = Bars(
        bars.opened_at_ns[-1:] + NS_PER_DAY, prices, prices, prices, prices, np.array([10**6])
    )
    service.worker._links = replace(service.worker._links, open_bar=lambda _: jump)
    await service.worker.want([LiveWant("A")])
    service.told()

    service.worker.on_restart()
    await service.work()

    assert [t["type"] for t in service.told()] == ["technical_analysis_update"]


async def test_a_cross_under_way_is_an_alert_once() -> None:
    close = np.concatenate((np.full(200, 100.0), np.full(30, 90.0)))
    stamps = 19_000 * NS_PER_DAY + np.arange(len(close), dtype=np.int64) * NS_PER_DAY
    volume = np.full(len(close), 10**6, np.int64)
    bars = Bars(stamps, close, close + 1, close - 1, close, volume)
    service = Service({("A", "1d"): bars})
    await service.worker.want([LiveWant("A")])
    service.told()
    day_ns = int(stamps[-1]) + NS_PER_DAY

    async def tick(value: float, traded: int) -> list[dict[str, Any]]:
        body = price(day_ns, value, traded, "A")
        message = Message(PRICES + "A", orjson.dumps(body))
        service.worker.on_message(message.kind, message)
        await service.work()
        return [t for t in service.told() if t["type"] == "technical_alert"]

    assert await tick(110.0, 5_000) == []  # too little was traded
    alert, other = await tick(100.9, 20_000)  # a move of 12 % is no objection to a rise
    assert alert["data"]["type"] == "MA200_breakout_up"
    assert other["data"]["type"] == "RSI_overbought"
    assert other["data"]["rsi_value"] >= 70
    assert alert["data"]["sma_200"] == pytest.approx(np.append(close, 100.9)[-200:].mean())
    assert alert["data"]["direction"] == "bullish"
    assert await tick(101.0, 30_000) == []
    service.clock.advance(3_601.0)
    await service.worker.want([LiveWant("A")])
    assert len(await tick(101.0, 30_000)) == 2


# -- the filter --------------------------------------------------------------------------------


def candidate(**other: Any) -> Candidate:
    given: dict[str, Any] = {
        "symbol": "A",
        "interval": "1d",
        "type": "golden_cross",
        "strength": 1.0,
    }
    return Candidate(**(given | {"volume": 10**6, "move": 0.0} | other))


@pytest.mark.parametrize(
    ("other", "record", "rule"),
    [
        ({}, None, None),
        ({"type": "BB_touch_upper"}, None, "type"),
        ({}, TrackRecord(5, 0.9, 69.9), "quality"),
        ({}, TrackRecord(5, 0.59, 75.0), "success"),
        ({}, TrackRecord(4, 0.1, 1.0), None),
        ({}, TrackRecord(5, 0.6, 70.0), None),
        ({"strength": 0.49}, None, "strength"),
        ({"volume": 9_999.0}, None, "volume"),
        ({"move": -0.051}, None, "market"),
        ({"move": 0.2}, None, None),
        ({"type": "dead_cross", "move": 0.051}, None, "market"),
        ({"type": "RSI_oversold", "move": -0.2}, None, None),
    ],
)
def test_each_rule_says_no_by_itself(
    other: dict[str, Any], record: TrackRecord | None, rule: str | None
) -> None:
    chain = AlertFilter()
    chain.records = {} if record is None else {"golden_cross": record}

    assert chain.refusal(candidate(**other), 0.0) == rule


def test_an_alert_is_told_once_in_an_hour_and_three_of_a_symbol() -> None:
    chain = AlertFilter()
    kinds = ("golden_cross", "dead_cross", "RSI_oversold", "RSI_overbought")
    for number, kind in enumerate(kinds[:3]):
        assert chain.refusal(candidate(type=kind), number) is None
        chain.tell(candidate(type=kind), number)

    assert chain.refusal(candidate(), 100.0) == "duplicate"
    assert chain.refusal(candidate(type=kinds[3]), 100.0) == "too many"
    assert chain.refusal(candidate(symbol="B"), 100.0) is None
    assert chain.refusal(candidate(type=kinds[3]), 3_600.5) is None
    assert chain.refusal(candidate(), 3_600.0) is None


def test_quality_adds_up_to_eighty() -> None:
    assert quality_score(1.0, 50.0, 0.0, float("inf"), 100) == 80.0
    assert quality_score(0.0, -5.0, -50.0, 0.0, 0) == 0.0
    assert quality_score(0.1, 2.0, -4.0, 1.0, 6) == 10 + 4 + 12 + 7.5 + 3


def test_sma_20_is_a_standard_set() -> None:
    assert SMA20 in STANDARD
