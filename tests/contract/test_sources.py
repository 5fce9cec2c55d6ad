"""Each source by each check: what the rest of the service relies on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.bars import Bars, Quote
from infra.clock import Clock, FakeClock, SystemClock
from infra.errors import SymbolUnknown
from infra.periods import INTERVALS
from infra.settings import LIVE_SOURCES, SOURCE_NAMES, load_settings
from infra.sources import SOURCES, build_source
from infra.sources.base import Source, Tick, VersionChanged, Wanted
from infra.sources.facts import SourceFacts, source_facts
from infra.sources.origin import ORIGINS
from tests.fakes.yahoo import FakeYahoo
from tests.recordings import make_recording

START_S = 1_700_000_000.0
NOW_S = START_S + 12_345.6


class FakesClock(SystemClock):
    """The wall time of the fake Yahoo, and the machine's for waiting."""

    def __init__(self, fake: FakeYahoo) -> None:
        self._fake = fake

    def time_s(self) -> float:
        return self._fake.now_s


def build(setting: str, clock: Clock, **others: Any) -> Source:
    """Return the source of a setting, with the default settings but for those given."""
    settings = load_settings(source=setting, **others)
    return SOURCES[settings.source_name](settings, clock, START_S)


@pytest.fixture(scope="module")
async def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recording of a few minutes."""
    path = tmp_path_factory.mktemp("recordings") / "made.ndjson.gz"
    await make_recording(path)
    return path


@pytest.fixture(params=sorted(SOURCES))
def name(request: pytest.FixtureRequest) -> str:
    """Return the name of each source."""
    return str(request.param)


@pytest.fixture
def setting(name: str, recording: Path) -> str:
    """Return what FINSTAGE_SOURCE is for it."""
    return f"replay:{recording}" if name == "recording" else name


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that stands somewhere within a session."""
    return FakeClock(NOW_S)


@pytest.fixture
async def source(name: str, setting: str, clock: FakeClock) -> AsyncIterator[Source]:
    """Return each source; a live one has a fake upstream on loopback."""
    if name != "yahoo":
        yield build(setting, clock)
        return
    async with FakeYahoo() as fake:
        urls = {"yahoo_url": fake.url, "yahoo_stream_url": fake.stream_url}
        source = build(name, FakesClock(fake), **urls, yahoo_requests_per_s=1_000)
        yield source
        await source.close()


def some_symbols(source: Source) -> tuple[str, ...]:
    """Return a few symbols that the source has."""
    return source.symbols()[:7] or ("AAPL", "IBM")


async def facts(source: Source, symbol: str) -> tuple[object, ...]:
    """Return all that a source says of a symbol, comparable."""
    history = await source.history(symbol)
    columns = [
        getattr(bars, column).tolist()
        for bars in (history.bars, history.open_bar)
        for column in Bars.__slots__
    ]
    factors = (history.price_factor.tolist(), history.volume_factor.tolist())
    version = (history.data_version, history.changed_at_s)
    return (columns, factors, version, await quote_of(source, symbol))


async def quote_of(source: Source, symbol: str) -> Quote:
    """Return the latest price of a symbol that has one."""
    quote = (await source.quotes([symbol]))[symbol]
    assert isinstance(quote, Quote)
    return quote


def test_every_source_of_the_settings_is_registered() -> None:
    assert {*SOURCE_NAMES, "recording"} == set(SOURCES)
    settings = load_settings()
    assert build_source(settings, FakeClock(NOW_S), START_S).name == settings.source


def test_what_is_said_of_a_source_without_opening_it_is_true(setting: str, source: Source) -> None:
    told = source_facts(load_settings(source=setting))

    facts = SourceFacts(source.name, source.synthetic, source.intervals, source.is_open)
    assert replace(told, recorded="") == facts


def test_what_is_made_is_called_made_and_what_is_not_of_now_too(
    setting: str, name: str, source: Source
) -> None:
    facts = source_facts(load_settings(source=setting))
    origin = facts.origin

    assert name in ORIGINS
    assert origin.label
    assert bool(origin.notice) == (name not in LIVE_SOURCES)
    if source.synthetic:
        assert "made" in origin.label
        assert "made" in origin.notice
    assert origin.is_made == (name == "simulated" or facts.recorded == "simulated")
    assert ("real" in origin.label) == (name == "replay" or facts.recorded == "replay")


def test_it_says_what_it_is(name: str, source: Source) -> None:
    assert source.name == name
    assert isinstance(source.synthetic, bool)
    assert source.intervals
    assert set(source.intervals) <= set(INTERVALS)


async def test_known_symbols_are_sorted(source: Source) -> None:
    symbols = source.symbols()

    assert bool(symbols) != source.is_open
    assert list(symbols) == sorted(set(symbols))
    for symbol in symbols:
        assert await source.knows(symbol)


async def test_an_unknown_symbol_raises(source: Source) -> None:
    assert not await source.knows("NO.SUCH")
    assert isinstance((await source.quotes(["NO.SUCH"]))["NO.SUCH"], SymbolUnknown)
    for call in (source.history, source.actions, source.info):
        with pytest.raises(SymbolUnknown):
            await call("NO.SUCH")


async def test_history_is_whole_ordered_and_read_only(source: Source) -> None:
    for symbol in some_symbols(source):
        history = await source.history(symbol)

        assert (history.symbol, history.source) == (symbol, source.name)
        assert len(history.open_bar) <= 1
        bars = Bars.concat(history.bars, history.open_bar)
        assert (np.diff(bars.opened_at_ns) > 0).all()
        for column in ("open", "high", "low", "close"):
            assert np.isfinite(getattr(bars, column)).all()
        assert (bars.high >= np.maximum(bars.open, bars.close)).all()
        assert (bars.low <= np.minimum(bars.open, bars.close)).all()
        assert (bars.volume >= 0).all()
        arrays = [getattr(history.bars, column) for column in Bars.__slots__]
        for array in (*arrays, history.price_factor, history.volume_factor):
            assert len(array) == len(history.bars)
            assert not array.flags.writeable


async def test_factors_are_positive_numbers(source: Source) -> None:
    for symbol in some_symbols(source):
        history = await source.history(symbol)

        for factors in (history.price_factor, history.volume_factor):
            assert factors.dtype == np.float64
            assert np.isfinite(factors).all()
            assert (factors > 0).all()


async def test_the_quote_fits_the_open_bar(source: Source) -> None:
    for symbol in some_symbols(source):
        quote, history = await quote_of(source, symbol), await source.history(symbol)

        assert (quote.symbol, quote.source) == (symbol, source.name)
        assert quote.synthetic == source.synthetic
        assert source.is_open or quote.data_version == history.data_version
        assert quote.low <= quote.price <= quote.high
        if len(history.open_bar):
            assert quote.session == history.open_bar.session(0)
            assert quote.price == history.open_bar.close[0]
            assert quote.volume == history.open_bar.volume[0]


async def test_the_stream_starts_with_versions_and_ends_at_the_quote(source: Source) -> None:
    if source.is_open:
        pytest.skip("an open source tells of what is wanted, see its own tests")
    events = await anext(source.stream(Wanted()))

    # Versions of all symbols first, then only ticks
    count = len(source.symbols())
    versions = [event for event in events[:count] if isinstance(event, VersionChanged)]
    ticks = [event.quote for event in events[count:] if isinstance(event, Tick)]
    assert tuple(version.symbol for version in versions) == source.symbols()
    assert len(ticks) == len(events) - count > 0
    # And each symbol's ticks are in order, the last one its quote
    latest: dict[str, Quote] = {}
    for quote in ticks:
        before = latest.get(quote.symbol)
        if before is not None:
            assert before.traded_at_ns < quote.traded_at_ns
            assert before.volume <= quote.volume
        latest[quote.symbol] = quote
    assert latest == {s: await quote_of(source, s) for s in source.symbols()}


async def test_built_anew_it_stands_at_the_same_place(
    setting: str, source: Source, clock: FakeClock
) -> None:
    if source.is_open:
        pytest.skip("it stands where its market does")
    await quote_of(source, source.symbols()[0])
    clock.advance(100.0)

    anew = build(setting, FakeClock(clock.time_s()))

    for symbol in some_symbols(source):
        assert await facts(source, symbol) == await facts(anew, symbol)
