"""Imported bars stand beside the source's: where it has none, and never in its place."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from infra.bars import NS_PER_DAY, NS_PER_MINUTE, Bars, History, Quote
from infra.clock import FakeClock
from infra.db.imports import LastImport
from infra.errors import IntervalUnsupported, StoreUnavailable, SymbolUnknown
from infra.periods import day_ns
from infra.sources.base import Tick, VersionChanged, Wanted
from infra.sources.imported import WithImports
from infra.sources.replay import ReplaySource, load_records

STARTED_AT_S = 1_700_000_000.0


class Held:
    """Imports in memory; away when it is told so."""

    def __init__(self) -> None:
        self.by_key: dict[tuple[str, str], Bars] = {}
        self.last: dict[tuple[str, str], LastImport] = {}
        self.is_away = False
        self.reads = 0
        self.answers = asyncio.Event()
        self.answers.set()

    def add(self, symbol: str, interval: str, bars: Bars) -> None:
        self.by_key[symbol, interval] = bars
        self._note(symbol, interval, True)

    def delete(self, symbol: str, interval: str) -> None:
        del self.by_key[symbol, interval]
        self._note(symbol, interval, False)

    def _note(self, symbol: str, interval: str, is_there: bool) -> None:
        number = max((last.id for last in self.last.values()), default=0) + 1
        self.last[symbol, interval] = LastImport(number, is_there)

    async def latest(self, after_id: int) -> dict[tuple[str, str], LastImport]:
        if self.is_away:
            raise StoreUnavailable("away")
        return {key: last for key, last in self.last.items() if last.id > after_id}

    async def bars(self, symbol: str, interval: str) -> Bars:
        if self.is_away:
            raise StoreUnavailable("away")
        self.reads += 1
        await self.answers.wait()
        return self.by_key[symbol, interval]


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def inner() -> ReplaySource:
    return ReplaySource(load_records(), FakeClock(STARTED_AT_S), STARTED_AT_S)


@pytest.fixture
def source(held: Held, inner: ReplaySource) -> WithImports:
    return WithImports(inner, held, FakeClock(STARTED_AT_S))


def daily(first: date, count: int, price: float = 10.0) -> Bars:
    stamps = day_ns(first) + np.arange(count, dtype=np.int64) * NS_PER_DAY
    prices = np.asarray(price + np.arange(count), np.float64)
    return Bars(stamps, prices, prices + 1, prices - 1, prices, np.full(count, 100, np.int64))


async def test_a_symbol_of_ones_own_is_known_once_it_was_looked_for(
    source: WithImports, held: Held
) -> None:
    held.add("OWN", "1d", daily(date(2024, 3, 4), 5))
    with pytest.raises(SymbolUnknown):
        await source.history("OWN")

    told = await source.look()
    history = await source.history("OWN")

    assert told == ("OWN",)
    assert await source.look() == ()
    assert "OWN" in source.symbols()
    assert (history.source, len(history.bars)) == ("import", 5)
    assert history.price_factor.tolist() == [1.0] * 5


async def test_of_two_looks_at_one_time_the_newer_answer_stays(
    source: WithImports, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    held.add("OWN", "1d", daily(date(2024, 3, 4), 5))
    ask, late = held.latest, asyncio.Event()
    answers: list[bool] = []

    async def first_is_late(after_id: int) -> dict[tuple[str, str], LastImport]:
        found = await ask(after_id)
        answers.append(True)
        if len(answers) == 1:
            await late.wait()
        return found

    monkeypatch.setattr(held, "latest", first_is_late)
    slow = asyncio.create_task(source.look())
    await asyncio.sleep(0)
    held.delete("OWN", "1d")
    quick = asyncio.create_task(source.look())
    for _ in range(20):
        await asyncio.sleep(0)
    late.set()
    await asyncio.gather(slow, quick)

    assert "OWN" not in source.symbols()


async def test_its_price_is_its_last_close_at_the_end_of_the_session(
    source: WithImports, held: Held
) -> None:
    held.add("OWN", "1d", daily(date(2024, 3, 4), 5))
    await source.look()

    quotes = await source.quotes(["OWN", "AAPL", "NOPE"])

    own, live = quotes["OWN"], quotes["AAPL"]
    assert isinstance(own, Quote)
    assert (own.price, own.previous_close, own.session) == (14.0, 13.0, date(2024, 3, 8))
    assert own.traded_at_ns == day_ns(date(2024, 3, 8)) + 21 * 60 * NS_PER_MINUTE
    assert (own.source, own.market_status, own.synthetic) == ("import", "closed", False)
    assert isinstance(live, Quote)
    assert live.source == "replay"
    assert isinstance(quotes["NOPE"], SymbolUnknown)


async def test_older_bars_are_put_before_the_sources_and_adjusted_as_its_first(
    source: WithImports, held: Held, inner: ReplaySource
) -> None:
    live = await inner.history("AAPL")
    first = live.bars.session(0)
    held.add("AAPL", "1d", daily(first - timedelta(days=3), 6))
    await source.look()

    both = await source.history("AAPL")

    assert both.source == "replay"
    assert both.source_of(both.bars) == "replay+import"
    assert both.source_of(both.bars[-20:]) == "replay"  # of which all are the replay's
    assert len(both.bars) == len(live.bars) + 3 + _free_days(live.bars, first, 3)
    assert np.all(np.diff(both.bars.opened_at_ns) > 0)
    assert both.price_factor[0] == live.price_factor[0] != 1.0
    at = int(np.searchsorted(both.bars.opened_at_ns, live.bars.opened_at_ns[0]))
    assert both.bars.close[at] == live.bars.close[0]  # the source's own, where both have it
    assert both.data_version != live.data_version


def _free_days(bars: Bars, first: date, count: int) -> int:
    days = {first + timedelta(days=n) for n in range(count)}
    return len(days - {bars.session(row) for row in range(count + 1)})


async def test_bars_after_the_sources_last_are_left_out(
    source: WithImports, held: Held, inner: ReplaySource
) -> None:
    live = await inner.history("AAPL")
    held.add("AAPL", "1d", daily(date(2024, 3, 4), 5))
    await source.look()

    assert len((await source.history("AAPL")).bars) == len(live.bars)


async def test_longer_bars_are_made_of_imported_minutes(source: WithImports, held: Held) -> None:
    opens_ns = day_ns(date(2024, 3, 5)) + (14 * 60 + 30) * NS_PER_MINUTE
    count = 390
    prices = 10 + np.arange(count) / 100
    held.add(
        "OWN",
        "1m",
        Bars(
            opens_ns + np.arange(count, dtype=np.int64) * NS_PER_MINUTE,
            prices,
            prices,
            prices,
            prices,
            np.ones(count, np.int64),
        ),
    )
    await source.look()

    hours, days = await source.history("OWN", "60m"), await source.history("OWN")

    assert hours.bars.volume.tolist() == [60, 60, 60, 60, 60, 60, 30]
    assert (days.bars.session(0), int(days.bars.volume[0])) == (date(2024, 3, 5), 390)


async def test_an_interval_that_neither_has_is_said(source: WithImports, held: Held) -> None:
    held.add("OWN", "1d", daily(date(2024, 3, 4), 5))
    held.add("AAPL", "15m", daily(date(2024, 3, 4), 1))
    await source.look()

    with pytest.raises(IntervalUnsupported, match="use one of 1d"):
        await source.history("OWN", "60m")
    with pytest.raises(IntervalUnsupported, match="15m, 30m, 60m"):
        await source.history("AAPL", "5m")


async def test_while_the_store_is_away_what_was_read_is_given_as_stale(
    source: WithImports, held: Held
) -> None:
    held.add("OWN", "1d", daily(date(2024, 3, 4), 5))
    held.add("NEW", "1d", daily(date(2024, 3, 4), 5))
    await source.look()
    first = await source.history("OWN")
    held.add("OWN", "1d", daily(date(2024, 3, 4), 6))
    await source.look()
    held.is_away = True

    kept = await source.history("OWN")

    assert kept.stale_since_s == STARTED_AT_S
    assert kept.data_version == first.data_version
    assert len(kept.bars) == 5
    with pytest.raises(StoreUnavailable):
        await source.history("NEW")
    with pytest.raises(StoreUnavailable):
        await source.look()
    held.is_away = False
    assert await source.look() == ("OWN",)  # told again, as what was told was given as of before
    now = await source.history("OWN")
    assert (now.stale_since_s, len(now.bars)) == (None, 6)
    assert now.data_version != kept.data_version
    assert await source.look() == ()


@pytest.mark.parametrize("interval", ["1d", "15m"])
async def test_bars_of_before_beside_those_of_the_source_are_stale_too(
    source: WithImports, held: Held, inner: ReplaySource, interval: str
) -> None:
    day = (await inner.history("AAPL")).bars.session(0) - timedelta(days=40)
    held.add("AAPL", interval, daily(day, 5, price=1.0))
    await source.look()
    first = await source.history("AAPL", interval)
    held.add("AAPL", interval, daily(day, 5, price=2.0))
    await source.look()
    held.is_away = True

    kept = await source.history("AAPL", interval)

    assert kept.stale_since_s == STARTED_AT_S
    assert kept.data_version == first.data_version
    np.testing.assert_array_equal(kept.bars.close, first.bars.close)
    held.is_away = False
    now = await source.history("AAPL", interval)
    assert now.data_version != kept.data_version
    assert now.bars.close[0] == 2.0


async def test_who_has_bars_is_said_as_they_were_given(
    source: WithImports, held: Held, inner: ReplaySource
) -> None:
    live = (await inner.history("AAPL")).bars
    held.add("OWN", "1d", daily(date(2024, 3, 4), 5))
    held.add("AAPL", "1d", daily(date(1980, 12, 12), 5))
    held.add("MSFT", "1d", daily(date(2024, 3, 4), 5))  # after the replay's clock
    held.add("IBM", "15m", daily(live.session(0), 5))
    await source.look()
    for symbol in ("OWN", "AAPL", "MSFT", "IBM", "^IXIC"):
        await source.history(symbol)
    await source.history("IBM", "15m")

    said = {s: source.source_of(s, "1wk") for s in ("OWN", "AAPL", "MSFT", "^IXIC")}

    assert said == {"OWN": "import", "AAPL": "replay+import", "MSFT": "replay", "^IXIC": "replay"}
    assert source.source_of("IBM", "15m") == "import"
    assert source.source_of("OWN", "15m") == "import"
    held.delete("AAPL", "1d")
    await source.look()
    assert source.source_of("AAPL", "1d") == "replay"


async def test_a_look_reads_its_answer_once_however_many_symbols_it_has(
    source: WithImports, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[bool] = []

    class Counted(dict[tuple[str, str], LastImport]):
        def items(self) -> Any:
            reads.append(True)
            return super().items()

    for number in range(50):
        held.add(f"OWN{number}", "1d", daily(date(2024, 3, 4), 1))
    ask = held.latest

    async def counted(after_id: int) -> Counted:
        return Counted(await ask(after_id))

    monkeypatch.setattr(held, "latest", counted)

    assert len(await source.look()) == 50
    assert len(reads) == 1


async def test_bars_are_read_once_for_each_import(source: WithImports, held: Held) -> None:
    held.add("OWN", "1d", daily(date(2024, 3, 4), 5))
    await source.look()
    for _ in range(3):
        await source.history("OWN")

    assert held.reads == 1


async def test_who_asks_while_bars_are_read_waits_for_the_same_read(
    source: WithImports, held: Held
) -> None:
    held.add("OWN", "1d", daily(date(2024, 3, 4), 5))
    await source.look()
    held.answers.clear()

    asked = [asyncio.create_task(source.history("OWN")) for _ in range(5)]
    for _ in range(20):
        await asyncio.sleep(0)
    held.answers.set()
    found = await asyncio.gather(*asked)

    assert [len(history.bars) for history in found] == [5] * 5
    assert held.reads == 1


async def test_ticks_are_asked_for_where_the_source_has_the_symbol(
    source: WithImports, held: Held
) -> None:
    held.add("OWN", "1d", daily(date(2024, 3, 4), 5))
    held.add("AAPL", "1d", daily(date(1980, 12, 12), 5))
    await source.look()

    assert source.import_only == {"OWN"}
    assert [found.symbol for found in await source.search("own", 5)][0] == "OWN"
    assert (await source.info("OWN")).source == "import"
    assert await source.actions("OWN") == ()


async def test_what_is_deleted_is_the_sources_again_and_ones_own_is_unknown(
    source: WithImports, held: Held, inner: ReplaySource
) -> None:
    live = await inner.history("AAPL")
    held.add("OWN", "1d", daily(date(2024, 3, 4), 5))
    held.add("AAPL", "1d", daily(date(1980, 12, 12), 5))
    await source.look()
    before = await source.history("AAPL")
    held.delete("OWN", "1d")
    held.delete("AAPL", "1d")

    told = await source.look()

    assert told == ("AAPL", "OWN")
    after = await source.history("AAPL")
    assert len(before.bars) == len(live.bars) + 5
    assert len(after.bars) == len(live.bars)
    assert before.data_version != after.data_version == live.data_version
    with pytest.raises(SymbolUnknown):
        await source.history("OWN")
    assert not await source.knows("OWN")
    assert source.import_only == frozenset()
    assert source.imported() == ()


async def test_what_is_deleted_while_its_bars_are_read_is_unknown(
    source: WithImports, held: Held
) -> None:
    held.add("OWN", "1d", daily(date(2024, 3, 4), 5))
    await source.look()
    bars = held.by_key["OWN", "1d"]
    held.answers.clear()
    history = asyncio.create_task(source.history("OWN"))
    quotes = asyncio.create_task(source.quotes(["AAPL", "OWN"]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    held.delete("OWN", "1d")
    held.by_key["OWN", "1d"] = bars  # what was read is from before
    await source.look()
    held.answers.set()

    with pytest.raises(SymbolUnknown):
        await history
    answers = await quotes
    assert isinstance(answers["OWN"], SymbolUnknown)
    assert isinstance(answers["AAPL"], Quote)


@pytest.mark.parametrize("is_deleted", [False, True], ids=["imported_again", "deleted"])
async def test_bars_never_have_the_version_of_others(
    source: WithImports, held: Held, monkeypatch: pytest.MonkeyPatch, is_deleted: bool
) -> None:
    inner, asks = source._inner, asyncio.Event()
    ask = inner.history

    async def slow(*args: Any, **options: Any) -> History:
        await asks.wait()
        return await ask(*args, **options)

    first = (await inner.history("AAPL")).bars.session(0)
    held.add("AAPL", "1d", daily(first - timedelta(days=40), 5, price=1.0))
    await source.look()
    monkeypatch.setattr(inner, "history", slow)
    asked = asyncio.create_task(source.history("AAPL"))
    for _ in range(5):
        await asyncio.sleep(0)
    if is_deleted:
        held.delete("AAPL", "1d")
    else:
        held.add("AAPL", "1d", daily(first - timedelta(days=40), 5, price=2.0))
    await source.look()
    asks.set()

    found, now = await asked, await source.history("AAPL")

    assert found.data_version == now.data_version
    np.testing.assert_array_equal(found.bars.close, now.bars.close)


async def test_what_was_deleted_before_the_start_is_nothing_new(
    source: WithImports, held: Held
) -> None:
    held.add("OWN", "1d", daily(date(2024, 3, 4), 5))
    held.delete("OWN", "1d")

    assert await source.look() == ()
    assert source.symbols() == source._inner.symbols()


async def test_of_two_imported_intervals_the_other_one_stays(
    source: WithImports, held: Held
) -> None:
    held.add("OWN", "1d", daily(date(2024, 3, 4), 5))
    held.add("OWN", "15m", daily(date(2024, 3, 4), 5))
    await source.look()
    version = (await source.history("OWN")).data_version
    held.delete("OWN", "15m")

    assert await source.look() == ("OWN",)
    assert (await source.history("OWN")).data_version != version
    with pytest.raises(IntervalUnsupported):
        await source.history("OWN", "15m")


async def test_ticks_and_quotes_have_the_version_of_the_history(
    source: WithImports, held: Held
) -> None:
    held.add("AAPL", "1d", daily(date(1980, 12, 12), 5))
    await source.look()

    version = (await source.history("AAPL")).data_version
    quote = (await source.quotes(["AAPL"]))["AAPL"]
    events = await anext(aiter(source.stream(Wanted(()))))

    assert isinstance(quote, Quote)
    assert quote.data_version == version
    told = {
        e.quote.data_version if isinstance(e, Tick) else e.data_version
        for e in events
        if (isinstance(e, Tick) and e.quote.symbol == "AAPL")
        or (isinstance(e, VersionChanged) and e.symbol == "AAPL")
    }
    assert told == {version}


async def test_nothing_of_after_the_sources_clock_is_given_at_any_interval(
    source: WithImports, held: Held, inner: ReplaySource
) -> None:
    live = await inner.history("AAPL")
    last = live.open_bar.session(0)
    held.add("AAPL", "15m", daily(last - timedelta(days=2), 5))
    await source.look()

    bars = (await source.history("AAPL", "15m")).bars

    assert [bars.session(row) for row in range(len(bars))] == [
        last - timedelta(days=2),
        last - timedelta(days=1),
    ]
