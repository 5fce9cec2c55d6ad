"""Live indicators of many symbols at one interval: columns of state, updated by kernels."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.indicators.expressions import Call
from actors.indicators.live.kernel import CLOSE, SESSION, Columns, LiveIndicator
from actors.indicators.live.registry import LIVE_INDICATORS
from infra.bars import NS_PER_DAY, Bars, Floats, Ints

STRIDE = 64  # bars between checkpoints
KEPT = 4  # checkpoints of each symbol
_FIELDS = ("open", "high", "low", "close", "volume")
_OF_ROWS = ("state", "value", "closed", "before", "saved")
_OF_SYMBOLS = ("_opened_ns", "_count", "_has_open", "_changes")
_START_ROWS = 16

BarsOf = Callable[[str], Bars]


@dataclass(slots=True)
class LiveSet:
    """One indicator's columns.

    `state` (n, size): after the last closed bar. `value` (n, outputs): with the bar under way
    where there is one; `closed` of the last closed bar, `before` of the one before it; NaN where
    too few bars came. `saved` (n, KEPT, size): states before bars whose number is a multiple of
    `STRIDE`.
    """

    key: Call
    kernel: Callable[..., None]
    state: Floats
    value: Floats
    closed: Floats
    before: Floats
    saved: Floats
    params: Floats

    @classmethod
    def of(cls, key: Call, rows: int) -> LiveSet:
        """Return columns for so many symbols, none of which has a value yet."""
        indicator = LIVE_INDICATORS[key.name]
        size, outputs = indicator.state_size(key.params), len(indicator.outputs)
        value, closed, before = (np.full((rows, outputs), np.nan) for _ in range(3))
        state, saved = np.zeros((rows, size)), np.zeros((rows, KEPT, size))
        params = np.array(key.params, np.float64)
        return cls(key, indicator.kernel, state, value, closed, before, saved, params)

    def grow(self, rows: int) -> None:
        """Make room for so many symbols."""
        fresh = LiveSet.of(self.key, rows - len(self.state))
        for name in _OF_ROWS:
            setattr(self, name, np.concatenate((getattr(self, name), getattr(fresh, name))))

    def shrink(self, rows: int) -> None:
        """Keep the first so many symbols."""
        for name in _OF_ROWS:
            setattr(self, name, getattr(self, name)[:rows].copy())

    @property
    def indicator(self) -> LiveIndicator:
        """Return what this computes."""
        return LIVE_INDICATORS[self.key.name]


class LiveEngine:
    """All live sets of one interval.

    Symbols have a row from when they are first held until they are forgotten. A bar under way may
    come any number of times, and changes no state; it is closed by `update(final=True)`, or by the
    next bar. A closed bar that is revised is computed again from the checkpoint before it, or from
    history where that is gone.

    `bars_of(symbol)` gives all closed bars, oldest first; it is asked when a symbol or a set is
    made. Memory: for each symbol a ring of twice the longest window and 96 bytes a bar of it, and
    for each set its state five times. Not safe for several threads.
    """

    def __init__(self, bars_of: BarsOf, is_daily: bool = True) -> None:
        self._bars_of = bars_of
        self._is_daily = is_daily
        self._rows: dict[str, int] = {}
        self._sets: dict[Call, LiveSet] = {}
        self._columns = Columns(_START_ROWS, STRIDE)
        self._window = 1
        self._opened_ns: Ints = np.zeros((_START_ROWS, self._columns.capacity), np.int64)
        self._count: Ints = np.zeros(_START_ROWS, np.int64)
        self._has_open: NDArray[np.bool_] = np.zeros(_START_ROWS, np.bool_)
        self._changes: Ints = np.zeros(_START_ROWS, np.int64)  # of closed bars
        self._one_row, self._one_index = np.zeros(1, np.int64), np.zeros(1, np.int64)
        self._not_final = np.zeros(1, np.bool_)

    @property
    def sets(self) -> tuple[Call, ...]:
        """Return what is live."""
        return tuple(self._sets)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return the symbols held, in the order of their rows."""
        return tuple(sorted(self._rows, key=self._rows.__getitem__))

    @property
    def state_bytes(self) -> int:
        """Return the bytes of all columns."""
        arrays = [self._columns.arrays, self._opened_ns]
        for live in self._sets.values():
            arrays += [live.state, live.value, live.closed, live.before, live.saved]
        return sum(array.nbytes for array in arrays)

    def rows_of(self, symbols: Iterable[str]) -> Ints:
        """Return the rows of symbols that are held; raises KeyError for another."""
        return np.array([self._rows[symbol] for symbol in symbols], np.int64)

    def ready(self, symbol: str, key: Call) -> bool:
        """Return whether a symbol has enough closed bars for all outputs of a set."""
        row = self._rows.get(symbol)
        live = self._sets.get(key)
        if row is None or live is None:
            return False
        return bool(self._count[row] > live.indicator.warm_up(key.params))

    def values(self, symbol: str, key: Call, closed: bool = False) -> dict[str, float]:
        """Return the outputs of one symbol by name; NaN stands for none."""
        live = self._sets[key]
        row = (live.closed if closed else live.value)[self._rows[symbol]]
        return dict(zip(live.indicator.outputs, row.tolist(), strict=True))

    def column(self, key: Call, closed: bool = False) -> Floats:
        """Return the outputs of all symbols, (n_symbols, outputs), read-only."""
        live = self._sets[key]
        return self._shown(live.closed if closed else live.value)

    def before(self, key: Call) -> Floats:
        """Return the outputs of the bar before the last closed one, as `column` does."""
        return self._shown(self._sets[key].before)

    def previous(self, symbol: str, key: Call) -> dict[str, float]:
        """Return the outputs of the bar before the newest, be that closed or under way."""
        live, row = self._sets[key], self._rows[symbol]
        column = live.closed if self._has_open[row] else live.before
        return dict(zip(live.indicator.outputs, column[row].tolist(), strict=True))

    def closes(self, rows: Ints) -> tuple[Floats, Floats]:
        """Return the last closed price of symbols and that under way, NaN where there is none."""
        count, mask, prices = self._count[rows], self._columns.capacity - 1, self._columns.arrays
        before = np.where(count > 0, prices[CLOSE, rows, (count - 1) & mask], np.nan)
        now = np.where(self._has_open[rows], prices[CLOSE, rows, count & mask], np.nan)
        return before, now

    def newest(self, symbol: str) -> tuple[int, float, bool] | None:
        """Return opening, close, and whether it is closed, of the newest bar if there is one."""
        row = self._rows[symbol]
        is_closed = not self._has_open[row]
        number = int(self._count[row]) - is_closed
        if number < 0:
            return None
        place = number & (self._columns.capacity - 1)
        close = float(self._columns.arrays[CLOSE, row, place])
        return int(self._opened_ns[row, place]), close, is_closed

    def changes(self, symbol: str) -> int:
        """Return how often a symbol's closed bars were changed."""
        return int(self._changes[self._rows[symbol]])

    def _shown(self, column: Floats) -> Floats:
        found = column[: len(self._rows)].view()
        found.flags.writeable = False
        return found

    # -- symbols and sets ---------------------------------------------------------------------

    def add(self, key: Call) -> None:
        """Make a set live for all symbols held; nothing happens if it is."""
        for _ in self.adding(key):
            pass

    def adding(self, key: Call) -> Iterator[None]:
        """Make a set live in steps, a symbol each; it is not there before the last one.

        Ticks, bars and symbols may come in between.
        """
        if key in self._sets:
            return
        self._widen(LIVE_INDICATORS[key.name].window(key.params))
        live = LiveSet.of(key, self._room)
        done: dict[int, int] = {}  # rows, and after which change
        while left := [
            pair for pair in self._rows.items() if done.get(pair[1]) != self._changes[pair[1]]
        ]:
            for symbol, row in left:
                if row >= len(live.state):
                    live.grow(self._room)
                done[row] = int(self._changes[row])
                self._run_history(self._bars_of(symbol), row, [live])
                yield
        if len(live.state) < self._room:
            live.grow(self._room)
        self._sets[key] = live
        under_way = np.flatnonzero(self._has_open)
        if len(under_way):
            self._compute(under_way, np.zeros(len(under_way), np.bool_), [live])

    def drop(self, key: Call) -> None:
        """Let a set go; nothing happens if it is not live."""
        self._sets.pop(key, None)

    def hold(self, symbol: str) -> None:
        """Take a symbol's bars anew, from its history; a bar under way is forgotten."""
        row = self._rows.get(symbol)
        if row is None:
            row = self._rows[symbol] = len(self._rows)
            if row >= self._room:
                self._grow(2 * self._room)
        self._has_open[row] = False
        self._warm(symbol, row)

    def forget(self, symbols: Iterable[str]) -> None:
        """Let symbols go, those that are held; the last rows take their places.

        Not while a set is being made.
        """
        gone = [row for s in symbols if (row := self._rows.pop(s, None)) is not None]
        if not gone:
            return
        count = len(self._rows)
        last = {symbol: row for symbol, row in self._rows.items() if row >= count}
        places, moved = [row for row in gone if row < count], list(last.values())
        self._rows.update(zip(last, places, strict=True))
        of_rows = [getattr(self, name) for name in _OF_SYMBOLS]
        of_rows += [getattr(live, name) for live in self._sets.values() for name in _OF_ROWS]
        for array in of_rows:
            array[places] = array[moved]
        self._columns.arrays[:, places] = self._columns.arrays[:, moved]
        self._has_open[count:] = False
        if self._room > max(_START_ROWS, 4 * count):
            self._shrink(max(_START_ROWS, 2 * count))

    def last_closed_ns(self, symbol: str) -> int:
        """Return when a symbol's last closed bar opened; 0 where there is none."""
        row = self._rows[symbol]
        place = int(self._count[row] - 1) & (self._columns.capacity - 1)
        return int(self._opened_ns[row, place]) if self._count[row] else 0

    @property
    def _room(self) -> int:
        return len(self._count)

    def _grow(self, rows: int) -> None:
        self._columns.grow(rows)
        for name in _OF_SYMBOLS:
            held = getattr(self, name)
            more = np.zeros((rows - len(held), *held.shape[1:]), held.dtype)
            setattr(self, name, np.concatenate((held, more)))
        for live in self._sets.values():
            live.grow(rows)

    def _shrink(self, rows: int) -> None:
        self._columns.shrink(rows)
        for name in _OF_SYMBOLS:
            setattr(self, name, getattr(self, name)[:rows].copy())
        for live in self._sets.values():
            live.shrink(rows)

    def _widen(self, window: int) -> None:
        """Make the ring long enough for a window, a stride of replay and a bar under way."""
        self._window = max(self._window, window)
        needed = self._window + STRIDE * KEPT
        if needed <= self._columns.capacity:
            return
        former, former_opened = self._columns, self._opened_ns
        self._columns = Columns(self._room, needed)
        self._opened_ns = np.zeros((self._room, self._columns.capacity), np.int64)
        for symbol, row in self._rows.items():
            under_way = int(self._count[row]) & (former.capacity - 1)
            bar, opened_ns = former.arrays[:, row, under_way], former_opened[row, under_way]
            self._fill(symbol, row)
            place = int(self._count[row]) & (self._columns.capacity - 1)
            self._columns.arrays[:, row, place] = bar
            self._opened_ns[row, place] = opened_ns

    def _fill(self, symbol: str, row: int) -> None:
        """Write the last bars of a symbol's history into its ring."""
        bars = self._bars_of(symbol)
        first = max(0, len(bars) - self._columns.capacity + 1)
        self._write(row, bars, first, len(bars))

    def _write(self, row: int, bars: Bars, first: int, stop: int) -> None:
        places = np.arange(first, stop) & (self._columns.capacity - 1)
        for number, name in enumerate(_FIELDS):
            self._columns.arrays[number, row, places] = getattr(bars, name)[first:stop]
        self._columns.arrays[SESSION, row, places] = bars.opened_at_ns[first:stop] // NS_PER_DAY
        self._opened_ns[row, places] = bars.opened_at_ns[first:stop]

    def _warm(self, symbol: str, row: int) -> None:
        """Take a symbol's bars from its history, and run all sets over them."""
        bars, mask = self._bars_of(symbol), self._columns.capacity - 1
        under_way = int(self._count[row]) & mask
        bar = self._columns.arrays[:, row, under_way].copy()
        opened_ns = self._opened_ns[row, under_way]
        self._write(row, bars, max(0, len(bars) - mask), len(bars))
        self._run_history(bars, row, list(self._sets.values()))
        self._count[row] = len(bars)
        self._changes[row] += 1
        if self._has_open[row]:
            self._columns.arrays[:, row, len(bars) & mask] = bar
            self._opened_ns[row, len(bars) & mask] = opened_ns
            self._compute(np.array([row]), np.zeros(1, np.bool_), self._sets.values())

    def _run_history(self, bars: Bars, row: int, sets: Sequence[LiveSet]) -> None:
        """Give a symbol's row of sets the state after a whole history."""
        columns = Columns(1, len(bars) + 1)
        for number, name in enumerate(_FIELDS):
            columns.arrays[number, 0, : len(bars)] = getattr(bars, name)
        columns.arrays[SESSION, 0, : len(bars)] = bars.opened_at_ns // NS_PER_DAY
        index, rows = np.arange(len(bars)), np.zeros(len(bars), np.int64)
        final = np.ones(len(bars), np.bool_)
        last = (len(bars) - 1) // STRIDE * STRIDE  # the newest checkpoint
        edges = [0, *range(max(STRIDE, last - (KEPT - 1) * STRIDE), last + 1, STRIDE), len(bars)]
        for live in sets:
            state, out = live.state[row : row + 1], np.full((2, live.value.shape[1]), np.nan)
            state[:] = 0.0
            for first, stop in itertools.pairwise(edges):
                live.saved[row, (first // STRIDE) % KEPT] = state[0]
                some = slice(first, stop)
                made = np.empty((stop - first, live.value.shape[1]))
                arrays = columns.arrays
                live.kernel(rows[some], index[some], final[some], arrays, state, live.params, made)
                out = np.concatenate((out, made))[-2:]
            live.before[row], live.closed[row] = out
            live.value[row] = out[1]

    def _run(self, row: int, sets: Sequence[LiveSet], first: int, stop: int) -> None:
        """Close bars of one symbol, at most a stride of them from a multiple of it on."""
        rows = np.full(stop - first, row, np.int64)
        index = np.arange(first, stop)
        final = np.ones(stop - first, np.bool_)
        for live in sets:
            live.saved[row, (first // STRIDE) % KEPT] = live.state[row]
            out = np.empty((len(rows), live.value.shape[1]))
            live.kernel(rows, index, final, self._columns.arrays, live.state, live.params, out)
            live.before[row] = out[-2] if len(out) > 1 else live.closed[row]
            live.value[row] = live.closed[row] = out[-1]

    # -- ticks --------------------------------------------------------------------------------

    def tick(self, row: int, opened_at_ns: int, values: Sequence[float]) -> None:
        """Take the bar under way of one symbol: as `update`, for one at a time quicker."""
        count, arrays = int(self._count[row]), self._columns.arrays
        mask = self._columns.capacity - 1
        opened_ns, place = self._opened_ns[row], count & mask
        if self._has_open[row] and opened_at_ns > opened_ns[place]:
            columns = [np.array([value]) for value in values]
            self.update(np.array([row]), np.array([opened_at_ns]), columns, np.zeros(1, np.bool_))
            return
        if count and opened_at_ns <= opened_ns[(count - 1) & mask]:
            return
        arrays[:5, row, place] = values
        arrays[SESSION, row, place] = opened_at_ns // NS_PER_DAY
        opened_ns[place] = opened_at_ns
        self._has_open[row] = True
        self._one_row[0], self._one_index[0] = row, count
        for live in self._sets.values():
            live.kernel(
                self._one_row,
                self._one_index,
                self._not_final,
                arrays,
                live.state,
                live.params,
                live.value[row : row + 1],
            )

    def update(
        self,
        rows: Ints,
        opened_at_ns: Ints,
        values: Sequence[Floats],
        final: NDArray[np.bool_],
    ) -> None:
        """Take the newest bar of symbols, each once; `values` are open, high, low, close, volume.

        Where a later bar is under way, or `final` is true, the one before is closed as it was last
        told. A bar that opened before the last closed one is left out: `revise` is for those.
        """
        count, capacity = self._count[rows], self._columns.capacity
        last_closed = self._opened_ns[rows, (count - 1) & (capacity - 1)]
        fresh = (count == 0) | (opened_at_ns > last_closed)
        under_way = self._opened_ns[rows, count & (capacity - 1)]
        closes = fresh & self._has_open[rows] & (opened_at_ns > under_way)
        if closes.any():
            self._close(rows[closes])
        if not fresh.all():
            rows, opened_at_ns, final = rows[fresh], opened_at_ns[fresh], final[fresh]
            values = [column[fresh] for column in values]
        if not len(rows):
            return
        places = self._count[rows] & (capacity - 1)
        for number, column in enumerate(values):
            self._columns.arrays[number, rows, places] = column
        self._columns.arrays[SESSION, rows, places] = opened_at_ns // NS_PER_DAY
        self._opened_ns[rows, places] = opened_at_ns
        self._has_open[rows] = True
        under = ~final
        if under.all():
            self._compute(rows, final, self._sets.values())
            return
        if under.any():
            self._compute(rows[under], final[under], self._sets.values())
        self._close(rows[final])

    def _close(self, rows: Ints) -> None:
        """Close the bars under way of these rows."""
        at_checkpoint = rows[self._count[rows] % STRIDE == 0]
        for live in self._sets.values():
            if len(at_checkpoint):
                place = (self._count[at_checkpoint] // STRIDE) % KEPT
                live.saved[at_checkpoint, place] = live.state[at_checkpoint]
        self._compute(rows, np.ones(len(rows), np.bool_), self._sets.values())
        for live in self._sets.values():
            live.before[rows] = live.closed[rows]
            live.closed[rows] = live.value[rows]
        self._count[rows] += 1
        self._changes[rows] += 1
        self._has_open[rows] = False

    def _compute(self, rows: Ints, final: NDArray[np.bool_], sets: Iterable[LiveSet]) -> None:
        index, arrays = self._count[rows], self._columns.arrays
        first = int(rows[0])
        is_run = rows[-1] - first == len(rows) - 1 and bool(np.all(rows[1:] > rows[:-1]))
        for live in sets:
            if is_run:  # rows of one piece: kernels write where the values are kept
                out = live.value[first : first + len(rows)]
                live.kernel(rows, index, final, arrays, live.state, live.params, out)
                continue
            out = np.empty((len(rows), live.value.shape[1]))
            live.kernel(rows, index, final, arrays, live.state, live.params, out)
            live.value[rows] = out

    # -- revisions ----------------------------------------------------------------------------

    def revise(self, symbol: str, opened_at_ns: int, values: Sequence[float]) -> bool:
        """Replace a closed bar and compute again what came of it; False if it is not held.

        From the last checkpoint before it; from the whole history, which must hold the revised bar
        by then, where that is gone.
        """
        row = self._rows[symbol]
        count, capacity = int(self._count[row]), self._columns.capacity
        oldest = max(0, count - capacity + 1)
        numbers = np.arange(oldest, count)
        matches = np.flatnonzero(self._opened_ns[row, numbers & (capacity - 1)] == opened_at_ns)
        if not len(matches):
            known = bool(np.any(self._bars_of(symbol).opened_at_ns == opened_at_ns))
            if known:
                self._warm(symbol, row)
            return known
        revised = int(numbers[matches[0]])
        self._columns.arrays[: len(values), row, revised & (capacity - 1)] = values
        first = revised // STRIDE * STRIDE
        is_kept = first > (count - 1) // STRIDE * STRIDE - KEPT * STRIDE
        has_window = first == 0 or first - self._window >= oldest
        if not (is_kept and has_window):
            self._warm(symbol, row)
            return True
        self._replay(row, first, count)
        self._changes[row] += 1
        return True

    def _replay(self, row: int, first: int, count: int) -> None:
        sets = list(self._sets.values())
        for live in sets:
            live.state[row] = live.saved[row, (first // STRIDE) % KEPT]
            live.closed[row] = np.nan
        for start in range(first, count, STRIDE):
            self._run(row, sets, start, min(start + STRIDE, count))
        if self._has_open[row]:
            self._compute(np.array([row]), np.zeros(1, np.bool_), sets)
