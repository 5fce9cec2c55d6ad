"""The replay: real daily bars of the past, the last 125 sessions played forward again and again.

Where it stands depends on the wall time alone, never on what was done before: a process that
starts anew with the same arguments goes on at the same place with the same values. The prices
between a session's open and close are made (see `tick_path`); its bar is real.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from infra.bars import NS_PER_DAY, Bars, Floats, History, Ints, Quote
from infra.clock import Clock
from infra.errors import FinstageError, IntervalUnsupported, SymbolUnknown
from infra.periods import DAILY_INTERVALS, between
from infra.sources.base import (
    Action,
    ActionHappened,
    Event,
    Found,
    Lane,
    SymbolInfo,
    Tick,
    VersionChanged,
    Wanted,
    WithoutExtras,
)
from infra.sources.tick_path import LEAST_TICKS, SessionBar, TickPath, make_path, path_rng
from infra.symbols import nearest
from infra.universe import load_universe

DATA_FILE = Path(__file__).parents[1] / "data" / "daily_bars.parquet"
REPLAYED_SESSIONS = 125  # 2012-08-29 to 2013-03-01, half a year: two hours at a minute each

# Unix seconds as float64 are exact to 0.24 us: who slept until a tick must find it due.
EDGE_S = 1e-6

# The exchange's regular hours; early closes (half days) are played as whole days.
EXCHANGE = ZoneInfo("America/New_York")
MARKET_OPENS = time(9, 30)
MARKET_OPEN_NS = int(6.5 * 3600) * 10**9


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """All daily bars of one symbol as traded, with what happened at each ex-date.

    `price_step`: float64, 1.0, or the adjusted price's jump against the traded one (2.0 at a 2:1
    split, about 1.004 at a dividend). `split`: float64, 1.0, or the split's ratio.
    """

    bars: Bars
    price_step: Floats
    split: Floats


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where the replay stands: all indices count from 0, places compare in time order."""

    run: int
    session_index: int
    tick_index: int

    @property
    def session_number(self) -> int:
        """Return the number of sessions begun before this one, over all runs."""
        return self.run * REPLAYED_SESSIONS + self.session_index


def place_at(now_s: float, started_at_s: float, session_s: float, ticks: int) -> Place:
    """Return the place at a wall time (Unix seconds); before the start it is the start."""
    elapsed_s = max(0.0, now_s + EDGE_S - started_at_s)
    sessions, tick_index = divmod(int(elapsed_s * ticks / session_s), ticks)
    return Place(*divmod(sessions, REPLAYED_SESSIONS), tick_index)


def load_records(file: Path = DATA_FILE) -> dict[str, Record]:
    """Read all bars by symbol (some 20,000 rows, 1.3 MB); call it once."""
    # Here, as only the process that holds the source should pay for pyarrow (about 50 MB).
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(file)
    symbols, firsts = np.unique(np.array(table["symbol"].to_pylist()), return_index=True)
    days = np.array(table["session"].cast("int32"), np.int64)
    names = ("open", "high", "low", "close", "price_step", "split")
    open_, high, low, close, steps, splits = (np.array(table[name], np.float64) for name in names)
    volume = np.array(table["volume"], np.int64)
    bars = Bars(days * NS_PER_DAY, open_, high, low, close, volume)
    # Rows are sorted by symbol, so each symbol's are one slice.
    rows = [slice(*edges) for edges in zip(firsts, [*firsts[1:], len(bars)], strict=True)]
    return {
        str(symbol): Record(bars[part], _read_only(steps[part]), _read_only(splits[part]))
        for symbol, part in zip(symbols, rows, strict=True)
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Session:
    """What stays the same during one symbol's session."""

    day: date
    opened_at_ns: Ints
    market_opened_ns: int
    closed: Bars
    price_factor: Floats
    volume_factor: Floats
    previous_close: float | None
    path: TickPath


class ReplaySource(WithoutExtras):
    """Play the last 125 sessions of every record, `session_s` seconds each, for ever.

    At place (run, session, tick) the sessions before are closed bars, this one is open with its
    ticks 0..tick, and nothing later shows. After the last session the next run starts over with
    the same bars and ticks. Each session has its own data version, the same for all symbols.
    """

    name = "replay"
    synthetic = True
    is_open = False
    intervals: tuple[str, ...] = DAILY_INTERVALS

    def __init__(
        self,
        records: Mapping[str, Record],
        clock: Clock,
        started_at_s: float,
        session_s: float = 60.0,
        ticks_per_session: int = 240,
        seed: int = 0,
    ) -> None:
        if ticks_per_session < LEAST_TICKS or session_s <= 0:
            raise ValueError("a session needs some time, and 4 ticks or more")
        short = [name for name, record in records.items() if len(record.bars) < REPLAYED_SESSIONS]
        if short:
            raise ValueError(f"fewer than {REPLAYED_SESSIONS} sessions: {', '.join(short)}")
        self._records = {symbol: records[symbol] for symbol in sorted(records)}
        self._clock = clock
        self._started_at_s = started_at_s
        self._session_s = session_s
        self._ticks = ticks_per_session
        self._seed = seed
        # The sessions under way by symbol, and the index that they are of.
        self._sessions: tuple[int, dict[str, _Session]] = (0, {})

    def symbols(self) -> tuple[str, ...]:
        """Return the known symbols, sorted."""
        return tuple(self._records)

    async def knows(self, symbol: str) -> bool:
        """Return whether there are bars of this symbol."""
        return symbol in self._records

    def place(self) -> Place:
        """Return where the replay stands now."""
        return place_at(self._clock.time_s(), self._started_at_s, self._session_s, self._ticks)

    async def history(
        self,
        symbol: str,
        interval: str = "1d",
        start: date | None = None,
        end: date | None = None,
        lane: Lane = Lane.INTERACTIVE,
    ) -> History:
        """Return daily bars; raises SymbolUnknown, and IntervalUnsupported for other bars."""
        if interval != "1d":
            raise IntervalUnsupported(("query", "interval"), interval, self.intervals)
        return between(self.history_now(symbol), start, end)

    async def quotes(
        self, symbols: Sequence[str], lane: Lane = Lane.INTERACTIVE
    ) -> dict[str, Quote | FinstageError]:
        """Return the latest tick of each symbol, or SymbolUnknown."""
        return {s: self.quote_now(s) if s in self._records else self._unknown(s) for s in symbols}

    async def actions(self, symbol: str) -> tuple[Action, ...]:
        """Return the splits and dividends up to the session under way; raises SymbolUnknown."""
        row = len(self.history_now(symbol).bars)
        return _actions(symbol, self._records[symbol], 0, row)

    async def info(self, symbol: str) -> SymbolInfo:
        """Return what the symbol is; raises SymbolUnknown."""
        if symbol not in self._records:
            raise self._unknown(symbol)
        return SymbolInfo(
            symbol=symbol,
            name=load_universe().name(symbol),
            exchange=None,
            currency="USD",
            major_currency="USD",
            minor_units=1,
            time_zone=str(EXCHANGE),
            kind="index" if symbol.startswith("^") else "equity",
            delay_s=None,
            source=self.name,
            received_at_ns=0,
        )

    async def search(self, text: str, count: int) -> tuple[Found, ...]:
        """Return symbols whose own or English name holds `text`, then those that look like it."""
        universe, wanted = load_universe(), text.strip().upper()
        named = {s: universe.name(s) for s in self._records}
        holding = [s for s, name in named.items() if wanted in s or wanted in (name or "").upper()]
        symbols = dict.fromkeys([*holding, *nearest(wanted, named, count)])
        return tuple(
            Found(s, named[s], None, "index" if s.startswith("^") else "equity", self.name, 0)
            for s in list(symbols)[:count]
        )

    def history_now(self, symbol: str) -> History:
        """Return the closed bars, and the open one made from the ticks so far.

        Raises SymbolUnknown. Cost: constant, but for the first call of a session.
        """
        place = self.place()
        session = self._session(symbol, place.session_index)
        return History(
            symbol=symbol,
            bars=session.closed,
            open_bar=_open_bar(session, place.tick_index),
            price_factor=session.price_factor,
            volume_factor=session.volume_factor,
            data_version=self._data_version(place),
            changed_at_s=self._started_at_s + place.session_number * self._session_s,
            source=self.name,
        )

    def quote_now(self, symbol: str) -> Quote:
        """Return the latest tick; raises SymbolUnknown."""
        return self._quote_at(symbol, self.place())

    async def stream(self, wanted: Wanted) -> AsyncIterator[tuple[Event, ...]]:
        """Yield a batch at once and then at each tick; late ones hold all that became due.

        All symbols are told of, wanted or not: they cost nothing upstream.
        Ticks of a session that is over are not caught up. If the wall clock is set back, nothing
        comes until it is past the last tick again.
        """
        last: Place | None = None
        while True:
            now_place = self.place()
            if last is None or now_place > last:
                events = self.events_between(last, now_place)
                last = now_place
                yield events
            else:
                await self._clock.sleep(self._wait_s(last))

    def events_between(self, last: Place | None, now_place: Place) -> tuple[Event, ...]:
        """Return what happened after `last` up to `now_place`, oldest first, symbols sorted.

        None as `last` means that nothing was seen: the whole session so far is told, and its
        version is not called restarted, as there is nothing to drop. Splits and dividends are
        told with the session that they begin, but not of sessions that were slept through.
        """
        if last is not None and now_place <= last:
            return ()
        same_session = last is not None and last.session_number == now_place.session_number
        first_tick = last.tick_index + 1 if last is not None and same_session else 0
        restarted = last is not None and last.run != now_place.run
        version = self._data_version(now_place)
        changes = () if same_session else self.symbols()
        is_next = last is not None and now_place.session_number == last.session_number + 1
        actions = self._actions_of(now_place.session_index) if is_next else ()
        ticks = range(first_tick, now_place.tick_index + 1)
        return (
            *(VersionChanged(symbol, version, restarted) for symbol in changes),
            *(ActionHappened(action) for action in actions),
            *(
                Tick(self._quote_at(symbol, Place(now_place.run, now_place.session_index, tick)))
                for tick in ticks
                for symbol in self._records
            ),
        )

    def _actions_of(self, session_index: int) -> tuple[Action, ...]:
        """Return what takes effect with a session."""
        found: list[Action] = []
        for symbol, record in self._records.items():
            row = len(record.bars) - REPLAYED_SESSIONS + session_index
            found += _actions(symbol, record, row, row)
        return tuple(found)

    def _wait_s(self, last: Place) -> float:
        ticks_until_next = last.session_number * self._ticks + last.tick_index + 1
        next_at_s = self._started_at_s + ticks_until_next * self._session_s / self._ticks
        # A session at most, so that a clock that was set back and then mended is noticed.
        return min(next_at_s - self._clock.time_s(), self._session_s)

    def _data_version(self, place: Place) -> str:
        return f"replay-{int(self._started_at_s)}-{place.run}-{place.session_index}"

    def _quote_at(self, symbol: str, place: Place) -> Quote:
        session = self._session(symbol, place.session_index)
        path, tick = session.path, place.tick_index
        return Quote(
            symbol=symbol,
            price=float(path.price[tick]),
            previous_close=session.previous_close,
            open=float(path.price[0]),
            high=float(path.high_so_far[tick]),
            low=float(path.low_so_far[tick]),
            volume=int(path.volume_so_far[tick]),
            session=session.day,
            traded_at_ns=session.market_opened_ns + tick * MARKET_OPEN_NS // len(path),
            market_status="open",
            source=self.name,
            synthetic=self.synthetic,
            data_version=self._data_version(place),
        )

    def _session(self, symbol: str, session_index: int) -> _Session:
        if symbol not in self._records:
            raise self._unknown(symbol)
        if self._sessions[0] != session_index:
            self._sessions = (session_index, {})
        sessions = self._sessions[1]
        if symbol not in sessions:
            sessions[symbol] = self._make_session(symbol, session_index)
        return sessions[symbol]

    def _unknown(self, symbol: str) -> SymbolUnknown:
        return SymbolUnknown(symbol, nearest(symbol, self._records))

    def _make_session(self, symbol: str, session_index: int) -> _Session:
        record = self._records[symbol]
        bars = record.bars
        row = len(bars) - REPLAYED_SESSIONS + session_index
        day = bars.session(row)
        price_factor = 1.0 / _product_after(record.price_step, row)
        market_opened = datetime.combine(day, MARKET_OPENS, EXCHANGE)
        return _Session(
            day=day,
            opened_at_ns=bars.opened_at_ns[row : row + 1],
            market_opened_ns=int(market_opened.timestamp()) * 10**9,
            closed=bars[:row],
            price_factor=_read_only(price_factor),
            volume_factor=_read_only(_product_after(record.split, row)),
            previous_close=float(bars.close[row - 1] * price_factor[-1]) if row else None,
            path=make_path(
                _session_bar(bars, row), self._ticks, path_rng(self._seed, symbol, day)
            ),
        )


def _actions(symbol: str, record: Record, first_row: int, last_row: int) -> tuple[Action, ...]:
    """Return what happened at the ex-dates from `first_row` to `last_row`, both included.

    The bars tell what a dividend did to adjusted prices, not how much was paid.
    """
    found = []
    steps = record.price_step[first_row : last_row + 1]
    for row in first_row + np.flatnonzero(steps != 1.0):
        split, day = float(record.split[row]), record.bars.session(int(row))
        if split != 1.0:
            found.append(Action(symbol, day, "split", split, split))
        rest = float(record.price_step[row]) / split
        if abs(rest - 1) > 1e-9:
            found.append(Action(symbol, day, "dividend", None, rest))
    return tuple(found)


def _product_after(steps: Floats, row: int) -> Floats:
    """Return for each bar i before `row` the product of steps[i + 1 .. row]."""
    return np.cumprod(steps[row:0:-1], dtype=np.float64)[::-1]


def _read_only(values: Floats) -> Floats:
    values.flags.writeable = False
    return values


def _session_bar(bars: Bars, row: int) -> SessionBar:
    return SessionBar(
        float(bars.open[row]),
        float(bars.high[row]),
        float(bars.low[row]),
        float(bars.close[row]),
        int(bars.volume[row]),
    )


def _open_bar(session: _Session, tick: int) -> Bars:
    path, now = session.path, slice(tick, tick + 1)
    return Bars(
        session.opened_at_ns,
        path.price[:1],
        path.high_so_far[now],
        path.low_so_far[now],
        path.price[now],
        path.volume_so_far[now],
    )
