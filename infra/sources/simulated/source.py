"""The simulated source: a market that is open at all hours, of any size and any rate."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import repeat
from typing import NamedTuple

import numpy as np

from infra.bars import NS_PER_DAY, Bars, Floats, History, Ints, Quote
from infra.clock import Clock
from infra.errors import FinstageError, IntervalUnsupported, SymbolUnknown
from infra.periods import INTERVALS, between, day_ns
from infra.sources.base import (
    Action,
    ActionHappened,
    Event,
    Found,
    Gap,
    Lane,
    SymbolInfo,
    Tick,
    VersionChanged,
    Wanted,
    WithoutExtras,
)
from infra.sources.simulated.faults import Fault, FaultScript, parse_faults
from infra.sources.simulated.market import (
    EPOCH_DAY,
    MINUTES_PER_DAY,
    STEPS_PER_UNIT,
    Grid,
    Market,
)
from infra.sources.simulated.series import Series, day_so_far, whole_days
from infra.sources.simulated.splits import Split, Splits
from infra.sources.simulated.tape import Tape
from infra.symbols import nearest

MAX_SYMBOLS = 10_000
CURRENCY = "USD"

# Minutes of a bar, of the intervals that the source itself answers.
MINUTES = {
    "1m": 1, "2m": 2, "5m": 5, "15m": 15, "30m": 30, "60m": 60, "90m": 90, "1h": 60,
    "1d": MINUTES_PER_DAY,
}  # fmt: skip
# How far bars under a day reach back: like those of free sources.
MINUTE_HISTORY_DAYS = 7
SHORT_HISTORY_DAYS = 60

# Who is further behind has missed ticks, and is told so.
CATCH_UP_S = 10.0
# Ticks of a late batch, so that others get their turn.
BATCH_TICKS = 20_000
# Unix seconds as float64 are exact to 0.24 us: who slept until a tick must find it due.
_EDGE_NS = 1_000
# A clock that was set back and then mended is noticed within this time.
_LONGEST_WAIT_S = 60.0


class _Told(NamedTuple):
    """The symbols that a stream tells of, and their tape."""

    wanted: frozenset[str]
    symbols: tuple[str, ...]
    tape: Tape


class SimulatedSource(WithoutExtras):
    """Make ticks of `symbols` symbols, SIM0001 and so on, `ticks_per_s` of each a second.

    What a price is depends on the seed, the symbol, the instant and the rate alone (`market`
    says how), so a process that starts anew goes on with the same values, and history is what
    the stream told. A session is a UTC day without end: each has its own data version. `faults`
    is a script (see `parse_faults`) whose times count from `started_at_s` (Unix seconds). Faults
    but splits are of the stream: bars and their version do not know them.

    A split divides prices from its first tick on. Of the day under way all bars and the open,
    high and low change to the new scale with it; the days before are as traded, with factors.
    The rate is rounded to whole ticks in 5 seconds, under 0.8 a second in a minute: see
    `ticks_per_s`. Raises ValueError for a number of symbols outside 1 to 10,000, a rate below
    four a minute, a script that is wrong, and a start before 2020-01-03.
    """

    name = "simulated"
    synthetic = True
    is_open = False
    intervals: tuple[str, ...] = INTERVALS

    def __init__(
        self,
        clock: Clock,
        started_at_s: float,
        symbols: int = 10,
        ticks_per_s: float = 1.0,
        seed: int = 0,
        faults: str = "",
        history_days: int = 400,
    ) -> None:
        if not 1 <= symbols <= MAX_SYMBOLS:
            raise ValueError(f"{symbols} symbols are not within 1 to {MAX_SYMBOLS}")
        started_day = int(started_at_s * 1e9) // NS_PER_DAY
        self._first_day = max(started_day - history_days, EPOCH_DAY + 1)
        if started_day <= self._first_day:
            raise ValueError("a simulation starts on 2020-01-03 or later, with a day of history")
        numbers = {f"SIM{number:04d}": number for number in range(1, symbols + 1)}
        self._symbols = tuple(sorted(numbers))
        self._rows = {symbol: row for row, symbol in enumerate(self._symbols)}
        self._grid = Grid.of(ticks_per_s)
        in_order = np.array([numbers[symbol] for symbol in self._symbols])
        self._market = Market(seed, in_order, self._grid)
        self._seed = seed
        self._clock = clock
        self._started_at_ns = round(started_at_s * 1e9)
        self._faults = parse_faults(faults)
        self._check_symbols()
        self._halts = [fault for fault in self._faults if fault.kind == "halt"]
        self._splits = Splits(self._faults, self._symbols, self._grid, self._started_at_ns)
        self._asked: _Told | None = None

    @property
    def ticks_per_s(self) -> float:
        """Return the ticks of one symbol a second."""
        return self._grid.ticks_per_s

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols, sorted."""
        return self._symbols

    async def knows(self, symbol: str) -> bool:
        """Return whether there is such a symbol."""
        return symbol in self._rows

    # -- bars -------------------------------------------------------------------------------

    async def history(
        self,
        symbol: str,
        interval: str = "1d",
        start: date | None = None,
        end: date | None = None,
        lane: Lane = Lane.INTERACTIVE,
    ) -> History:
        """Return daily bars, or those of an interval under a day.

        All there are: `history_days` days before the start, 60 days of bars under a day, 7 of
        1m. Raises SymbolUnknown, and IntervalUnsupported for longer bars.
        """
        row = self._row(symbol)
        if interval not in MINUTES:
            raise IntervalUnsupported(("query", "interval"), interval, self.intervals)
        tick = self._tick_now()
        today = self._grid.day(tick)
        minutes = MINUTES[interval]
        first = min(today, max(self._first_bar_day(interval, today), _day_number(start, 0)))
        stop = max(first, min(today, _day_number(end, today)))
        done, open_ = day_so_far(self._market, row, minutes, tick)
        before = whole_days(self._market, row, minutes, first, stop)
        bars = self._bars(symbol, Series.joined(before, done), tick)
        later = self._splits.ratios_after(symbol, bars.opened_at_ns, tick)
        history = History(
            symbol=symbol,
            bars=bars,
            open_bar=self._bars(symbol, open_, tick),
            price_factor=_read_only(1.0 / later),
            volume_factor=_read_only(later),
            data_version=self._version(symbol, tick),
            changed_at_s=self._changed_at_s(symbol, tick),
            source=self.name,
            interval=interval,
        )
        return between(history, start, end)

    def _first_bar_day(self, interval: str, today: int) -> int:
        if interval == "1d":
            return self._first_day
        reach = MINUTE_HISTORY_DAYS if interval == "1m" else SHORT_HISTORY_DAYS
        return max(self._first_day, today - reach)

    def _bars(self, symbol: str, series: Series, tick: int) -> Bars:
        ratios = self._splits.ratios_of_bars(symbol, series.opened_at_ns, tick)
        candles = series.candles
        return Bars(
            series.opened_at_ns,
            _price(candles.open, ratios),
            _price(candles.high, ratios),
            _price(candles.low, ratios),
            _price(candles.close, ratios),
            _volume(candles.volume, ratios),
        )

    # -- ticks ------------------------------------------------------------------------------

    async def quotes(
        self, symbols: Sequence[str], lane: Lane = Lane.INTERACTIVE
    ) -> dict[str, Quote | FinstageError]:
        """Return the last tick of each symbol, or SymbolUnknown; of a halted one, its last."""
        known = tuple(dict.fromkeys(s for s in symbols if s in self._rows))
        found = {tick.quote.symbol: tick.quote for tick in self._latest(known, self._tick_now())}
        return {s: found[s] if s in found else self._unknown(s) for s in symbols}

    async def stream(self, wanted: Wanted) -> AsyncIterator[tuple[Event, ...]]:
        """Yield the ticks of wanted symbols at each instant of the grid; late ones together.

        The first batch holds the versions and the last tick of all symbols, wanted or not: the
        day so far is in its open, high, low and volume, and in the bars. Who is 10 seconds behind
        is told of a Gap. If the wall clock is set back, nothing comes until it has caught up.
        """
        last = self._tick_now()
        yield (*self._versions(last), *self._latest(self._symbols, last))
        script = FaultScript(self._faults)
        seen = wanted.symbols
        told = self._told(seen)
        while True:
            tick = self._tick_now()
            if tick <= last:
                await self._clock.sleep(self._wait_s(last))
                continue
            if wanted.symbols is not seen:
                seen = wanted.symbols
                told = self._told(seen)
            events: list[Event] = []
            if tick - last > CATCH_UP_S * self.ticks_per_s + 1:
                stop = tick
                if told.symbols:
                    since_ns, until_ns = self._grid.time_ns(last), self._grid.time_ns(tick)
                    events.append(Gap(told.symbols, since_ns, until_ns))
                events += self._instant(told, script, last, tick)
            else:
                stop = min(tick, last + max(1, BATCH_TICKS // max(1, len(told.symbols))))
                for due in range(last + 1, stop + 1):
                    events += self._instant(told, script, due - 1, due)
            last = stop
            if events:
                yield tuple(events)

    def _instant(self, told: _Told, script: FaultScript, last: int, tick: int) -> Iterator[Event]:
        """Yield what happens with one tick, when the one before was `last`."""
        if self._grid.day(last) != self._grid.day(tick):
            yield from self._versions(tick)
        for split in self._splits.between(last, tick):
            yield VersionChanged(split.symbol, self._version(split.symbol, tick), False)
            yield ActionHappened(_action(split))
        at_ns = self._grid.time_ns(tick)
        at_s = (at_ns - self._started_at_ns) / 1e9
        yield from script.disturb(self._ticks_at(told, tick), at_s, at_ns)

    def _ticks_at(self, told: _Told, tick: int) -> list[Tick]:
        symbols = told.symbols
        if not symbols:
            return []
        number, index = divmod(tick, self._grid.ticks)
        span = told.tape.span(number)
        so_far = span.so_far
        ratios = self._splits.ratios(symbols, tick)
        opens = _price(span.day_open, ratios).tolist()
        columns = zip(
            symbols,
            _price(span.price[index], ratios).tolist(),
            opens,
            _price(so_far.high[index], ratios).tolist(),
            _price(so_far.low[index], ratios).tolist(),
            _volume(so_far.volume[index], ratios).tolist(),
            self._versions_of(symbols, tick),
            strict=False,  # versions may repeat for ever
        )
        session, at_ns = _date(span.day), self._grid.time_ns(tick)
        # By position, as this is what a tick costs: keywords take a fifth longer.
        return [
            Tick(
                Quote(
                    symbol, price, open_, open_, high, low, volume, session, at_ns, "open",
                    self.name, self.synthetic, version, 0, "regular", CURRENCY,
                )
            )
            for symbol, price, open_, high, low, volume, version in columns
        ]  # fmt: skip

    def _told(self, wanted: frozenset[str]) -> _Told:
        """Return what is told of: one and the same for those that were asked for last."""
        if self._asked is None or self._asked.wanted != wanted:
            symbols = tuple(symbol for symbol in self._symbols if symbol in wanted)
            self._asked = _Told(wanted, symbols, self._tape(symbols))
        return self._asked

    def _tape(self, symbols: Sequence[str]) -> Tape:
        return Tape(self._market, np.array([self._rows[s] for s in symbols], np.int64))

    def _latest(self, symbols: tuple[str, ...], tick: int) -> list[Tick]:
        ticks = self._ticks_at(self._told(frozenset(symbols)), tick)
        if not self._halts:
            return ticks
        return [self._halted(told.quote.symbol, tick) or told for told in ticks]

    def _halted(self, symbol: str, tick: int) -> Tick | None:
        """Return the last tick before a halt that is under way."""
        now_s = (self._grid.time_ns(tick) - self._started_at_ns) / 1e9
        for halt in self._halts:
            if halt.hits(symbol) and halt.lasts(now_s):
                last = self._grid.tick_at(self._at_ns(halt) - 1)
                halted = _Told(frozenset(), (symbol,), self._tape([symbol]))
                quote = self._ticks_at(halted, last)[0].quote
                return Tick(replace(quote, market_status="closed"))
        return None

    def _wait_s(self, last: int) -> float:
        return min(self._grid.time_ns(last + 1) / 1e9 - self._clock.time_s(), _LONGEST_WAIT_S)

    # -- versions, splits and time ------------------------------------------------------------

    def _versions(self, tick: int) -> Iterator[VersionChanged]:
        return (VersionChanged(s, self._version(s, tick), False) for s in self._symbols)

    def _versions_of(self, symbols: Sequence[str], tick: int) -> Iterator[str]:
        if not self._splits:
            return repeat(self._version("", tick))
        return (self._version(symbol, tick) for symbol in symbols)

    def _version(self, symbol: str, tick: int) -> str:
        splits = len(self._splits.effective(symbol, tick))
        told = f"simulated-{self._seed}-{self.ticks_per_s:g}-{_date(self._grid.day(tick))}"
        return f"{told}-{splits}" if splits else told

    def _changed_at_s(self, symbol: str, tick: int) -> float:
        times = [split.at_s for split in self._splits.effective(symbol, tick)]
        return max(self._grid.day(tick) * 86_400.0, *times, 0.0)

    def _check_symbols(self) -> None:
        for fault in self._faults:
            for symbol in fault.symbols:
                if symbol not in self._rows:
                    raise ValueError(
                        f"a {fault.kind} is to hit {symbol!r}, which is none of "
                        f"{self._symbols[0]} to SIM{len(self._symbols):04d}"
                    )

    def _at_ns(self, fault: Fault) -> int:
        return self._started_at_ns + round(fault.start_s * 1e9)

    def _now_ns(self) -> int:
        return int(self._clock.time_s() * 1e9) + _EDGE_NS

    def _tick_now(self) -> int:
        return self._grid.tick_at(self._now_ns())

    # -- what symbols are ---------------------------------------------------------------------

    async def actions(self, symbol: str) -> tuple[Action, ...]:
        """Return the splits of the script so far; raises SymbolUnknown."""
        self._row(symbol)
        return tuple(_action(split) for split in self._splits.effective(symbol, self._tick_now()))

    async def info(self, symbol: str) -> SymbolInfo:
        """Return what the symbol is; raises SymbolUnknown."""
        self._row(symbol)
        return SymbolInfo(
            symbol=symbol,
            name=_name(symbol),
            exchange=None,
            currency=CURRENCY,
            major_currency=CURRENCY,
            minor_units=1,
            time_zone="UTC",
            kind="equity",
            delay_s=0.0,
            source=self.name,
            received_at_ns=0,
        )

    async def search(self, text: str, count: int) -> tuple[Found, ...]:
        """Return symbols whose own name or long one holds `text`, then those that look like it."""
        sought = text.strip().upper()
        holding = [s for s in self._symbols if sought in s or sought in _name(s).upper()]
        found = dict.fromkeys([*holding[:count], *nearest(sought, self._symbols, count)])
        return tuple(Found(s, _name(s), None, "equity", self.name, 0) for s in list(found)[:count])

    def _row(self, symbol: str) -> int:
        if symbol not in self._rows:
            raise self._unknown(symbol)
        return self._rows[symbol]

    def _unknown(self, symbol: str) -> SymbolUnknown:
        return SymbolUnknown(symbol, nearest(symbol, self._symbols))


def _price(steps: Ints, ratios: Floats) -> Floats:
    """Return prices of steps, to four decimals: a split may make more than the two there were."""
    prices: Floats = np.round(steps / STEPS_PER_UNIT / ratios, 4)
    return prices


def _volume(shares: Ints, ratios: Floats) -> Ints:
    whole: Ints = np.rint(shares * ratios).astype(np.int64)
    return whole


def _action(split: Split) -> Action:
    return Action(split.symbol, _date(split.day), "split", split.ratio, split.ratio)


def _name(symbol: str) -> str:
    return f"Simulated {symbol.removeprefix('SIM')}"


def _date(day: int) -> date:
    return datetime.fromtimestamp(day * 86_400, UTC).date()


def _day_number(day: date | None, default: int) -> int:
    return default if day is None else day_ns(day) // NS_PER_DAY


def _read_only(values: Floats) -> Floats:
    values.flags.writeable = False
    return values
