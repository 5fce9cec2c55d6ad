"""The last values of prices and indicators of many symbols, as columns: made once, asked often."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from actors.indicators.expressions import Call
from actors.indicators.functions import function_named
from actors.indicators.language import FIELDS
from infra.bars import NS_PER_DAY, Bars, Floats, Ints

DAY = "day"  # the number of the bar's day since 1970
_OF_BARS = (*FIELDS, DAY)
_LEAST_DEPTH = 8  # so that most questions share their columns
_MOST_COLUMNS = 256
_START_ROWS = 64

Key = Call | None  # None: the bars themselves


@dataclass(slots=True)
class Column:
    """One indicator's last values.

    `lines` (outputs, rows, depth) float64: the newest bar at the end, NaN where there is none.
    `made_of`: the bars of each row, of which nothing but their identity matters.
    """

    names: tuple[str, ...]
    depth: int
    lines: Floats
    made_of: list[Bars | None]
    fresh_for: tuple[int, Sequence[str]] = (-1, ())

    def tail(self, name: str, rows: Ints, back: int, count: int) -> Floats:
        """Return (len(rows), count) values of an output, the newest `back` bars ago."""
        stop = self.depth - back
        found: Floats = self.lines[self.names.index(name), rows, stop - count : stop]
        return found

    def grow(self, rows: int) -> None:
        """Make room for so many rows."""
        more = rows - len(self.made_of)
        shape = (len(self.names), more, self.depth)
        self.lines = np.concatenate((self.lines, np.full(shape, np.nan)), axis=1)
        self.made_of += [None] * more


class Tails:
    """Columns of the symbols' bars.

    `closed(symbol)` gives the bars, the same object until they change; `cut` is applied before
    anything is computed. `revision()` grows whenever a symbol's bars may have changed: with it,
    what is up to date costs nothing to ask again. State: at most 256 columns, the longest unused
    given up first. Not safe for several threads; `fill` may be left and gone on with.
    """

    def __init__(
        self,
        closed: Callable[[str], Bars],
        cut: Callable[[Bars], Bars],
        revision: Callable[[], int],
    ) -> None:
        self._closed = closed
        self._cut = cut
        self._revision = revision
        self._rows: dict[str, int] = {}
        self._columns: OrderedDict[Key, Column] = OrderedDict()

    def rows(self, symbols: Sequence[str]) -> Ints:
        """Return the rows of symbols, new ones where they have none."""
        rows = self._rows
        for symbol in symbols:
            if symbol not in rows:
                rows[symbol] = len(rows)
        return np.fromiter((rows[s] for s in symbols), np.int64, len(symbols))

    def column(self, key: Key, depth: int) -> Column:
        """Return an indicator's column of at least this depth, which `fill` makes true."""
        column = self._columns.get(key)
        if column is None or column.depth < depth:
            names = _OF_BARS if key is None else function_named(key.name).outputs
            depth = max(depth, _LEAST_DEPTH)
            lines = np.full((len(names), _START_ROWS, depth), np.nan)
            column = self._columns[key] = Column(names, depth, lines, [None] * _START_ROWS)
        self._columns.move_to_end(key)
        while len(self._columns) > _MOST_COLUMNS:
            self._columns.popitem(last=False)
        return column

    def fill(self, key: Key, column: Column, symbols: Sequence[str]) -> Iterator[None]:
        """Compute what is missing or outdated, a symbol a step; raises as the indicator does."""
        revision = self._revision()
        if column.fresh_for == (revision, symbols):
            return
        rows = self.rows(symbols).tolist()
        if len(self._rows) > len(column.made_of):
            column.grow(max(len(self._rows), 2 * len(column.made_of)))
        for symbol, row in zip(symbols, rows, strict=True):
            closed = self._closed(symbol)
            if column.made_of[row] is closed:
                continue
            self._compute(key, column, row, self._cut(closed))
            column.made_of[row] = closed
            yield
        column.fresh_for = (revision, symbols)

    def _compute(self, key: Key, column: Column, row: int, bars: Bars) -> None:
        if key is None:
            lines = {name: getattr(bars, name) for name in FIELDS}
            lines[DAY] = bars.opened_at_ns // NS_PER_DAY
        else:
            lines = function_named(key.name).compute(bars, key.params)
        count = min(column.depth, len(bars))
        for number, name in enumerate(column.names):
            into = column.lines[number, row]
            into[: column.depth - count] = np.nan
            if count:
                into[column.depth - count :] = lines[name][-count:]
