"""Bars as columns, and what a source holds of one symbol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

NS_PER_DAY = 86_400_000_000_000
NS_PER_MINUTE = 60_000_000_000

IMPORT = "import"  # the source of bars that a user brought

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Bars:
    """Columns of one symbol's bars at one interval, all of length n, oldest first, read-only.

    `opened_at_ns`: int64 Unix nanoseconds, UTC; for 1d and longer midnight UTC of the exchange's
    date of the bar's first session. `open`, `high`, `low`, `close`: float64, never NaN.
    `volume`: int64.
    """

    opened_at_ns: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Ints

    def __post_init__(self) -> None:
        for name in self.__slots__:
            getattr(self, name).flags.writeable = False

    def __len__(self) -> int:
        return len(self.opened_at_ns)

    def __getitem__(self, rows: slice | NDArray[np.bool_] | Ints) -> Self:
        return type(self)(*(getattr(self, name)[rows] for name in self.__slots__))

    def __reduce__(self) -> tuple[type[Self], tuple[NDArray[Any], ...]]:
        # Through the constructor, as unpickled arrays can be written until it locks them.
        return type(self), tuple(getattr(self, name) for name in self.__slots__)

    @classmethod
    def empty(cls) -> Self:
        """Return no bars."""
        prices, counts = np.empty(0, np.float64), np.empty(0, np.int64)
        return cls(counts, prices, prices, prices, prices, counts)

    @classmethod
    def concat(cls, first: Bars, second: Bars) -> Self:
        """Return `first` followed by `second`."""
        return cls.joined((first, second))

    @classmethod
    def joined(cls, parts: Sequence[Bars]) -> Self:
        """Return parts one after the other; there is one at least."""
        return cls(*(np.concatenate([getattr(p, n) for p in parts]) for n in cls.__slots__))

    def session(self, row: int) -> date:
        """Return the exchange's date of the bar's first session."""
        return datetime.fromtimestamp(int(self.opened_at_ns[row]) // 10**9, UTC).date()


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """The bars of one interval that a source holds of one symbol at one data version.

    `bars` are closed and as traded; `open_bar` is the one under way (one row) or empty.
    `price_factor` and `volume_factor` (float64, one per closed bar) turn them into adjusted ones,
    rebased so that the open bar's factor is 1 and history meets the ticks.
    `changed_at_s` is the wall time (Unix seconds) at which this version came to be. `interval`
    is 1d, or one under a day. `stale_since_s` is the wall time since which the source could not
    be asked for a newer version, None while it can. `imported_ns` are the openings of those closed
    bars that a user brought, where `source` has the others.
    """

    symbol: str
    bars: Bars
    open_bar: Bars
    price_factor: Floats
    volume_factor: Floats
    data_version: str
    changed_at_s: float
    source: str
    interval: str = "1d"
    stale_since_s: float | None = None
    imported_ns: Ints | None = None

    def source_of(self, bars: Bars) -> str:
        """Return who has these of its bars: the source, or `SOURCE+import` where both do."""
        if self.imported_ns is None or not len(bars):
            return self.source
        first, last = np.searchsorted(
            self.imported_ns, bars.opened_at_ns[[0, -1]] + np.array([0, 1])
        )
        return joined_sources([self.source, IMPORT]) if last > first else self.source


def joined_sources(sources: Iterable[str]) -> str:
    """Return one text that names each source once, `import` last: `replay+import`."""
    parts = {part for source in sources for part in source.split("+")}
    return "+".join(sorted(parts, key=lambda part: (part == IMPORT, part)))


class BarSeries(NamedTuple):
    """Bars chosen from a history, its data version, source and staleness.

    `available`: the first and the last session of all of the history, None where it has none.
    """

    bars: Bars
    data_version: str
    source: str
    stale_since_s: float | None
    available: tuple[date, date] | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """The latest price of a symbol, as traded.

    `traded_at_ns`: Unix nanoseconds, UTC, the market's time, which in a replay is the past.
    `previous_close`: close of the session before, adjusted, so that a split is no change.
    `market_status` is open, pre, post or closed. `received_at_ns`: when it came here, 0 where it
    was made here. `session_part`: regular, or pre or post, which make neither bars nor alerts.
    `stale`: the source could not be asked for a newer one.
    """

    symbol: str
    price: float
    previous_close: float | None
    open: float
    high: float
    low: float
    volume: int
    session: date
    traded_at_ns: int
    market_status: str
    source: str
    synthetic: bool
    data_version: str
    received_at_ns: int = 0
    session_part: str = "regular"
    currency: str | None = None
    stale: bool = False
