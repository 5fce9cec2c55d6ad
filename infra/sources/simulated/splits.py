"""The splits of a fault script, as the market sees them: which scale a price is on."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from infra.bars import NS_PER_DAY, Floats, Ints
from infra.sources.simulated.faults import Fault
from infra.sources.simulated.market import Grid


@dataclass(frozen=True, slots=True)
class Split:
    """`ratio` new shares for one old, from a tick on; its whole UTC day is on the new scale."""

    symbol: str
    ratio: float
    tick: int
    day: int
    at_s: float


class Splits:
    """All splits of all symbols; what is said of a tick knows nothing of later ones."""

    def __init__(
        self, faults: Iterable[Fault], symbols: Sequence[str], grid: Grid, started_at_ns: int
    ) -> None:
        found: list[Split] = []
        for fault in faults:
            if fault.kind == "split":
                tick = grid.tick_at(started_at_ns + round(fault.start_s * 1e9) - 1) + 1
                day, at_s = grid.day(tick), grid.time_ns(tick) / 1e9
                hit = (s for s in symbols if fault.hits(s))
                found += [Split(symbol, fault.factor, tick, day, at_s) for symbol in hit]
        self._all = sorted(found, key=lambda split: (split.tick, split.symbol))
        self._ticks = [split.tick for split in self._all]
        self._of: dict[str, list[Split]] = {}
        for split in self._all:
            self._of.setdefault(split.symbol, []).append(split)

    def __bool__(self) -> bool:
        return bool(self._all)

    def between(self, last: int, tick: int) -> Sequence[Split]:
        """Return those after tick `last` up to `tick`, in order."""
        return self._all[bisect_right(self._ticks, last) : bisect_right(self._ticks, tick)]

    def effective(self, symbol: str, tick: int) -> list[Split]:
        """Return those of a symbol up to a tick, oldest first."""
        return [split for split in self._of.get(symbol, ()) if split.tick <= tick]

    def ratios(self, symbols: Sequence[str], tick: int) -> Floats:
        """Return by what the prices of a tick are divided, one number for each symbol."""
        ratios = np.ones(len(symbols))
        if self._all and self._all[0].tick <= tick:
            for place, symbol in enumerate(symbols):
                for split in self.effective(symbol, tick):
                    ratios[place] *= split.ratio
        return ratios

    def ratios_of_bars(self, symbol: str, opened_at_ns: Ints, tick: int) -> Floats:
        """Return by what the prices of bars are divided: by the splits of their day and before."""
        ratios = np.ones(len(opened_at_ns))
        for split in self.effective(symbol, tick):
            ratios[opened_at_ns >= split.day * NS_PER_DAY] *= split.ratio
        return ratios

    def ratios_after(self, symbol: str, opened_at_ns: Ints, tick: int) -> Floats:
        """Return for each bar the product of the splits after its day."""
        ratios = np.ones(len(opened_at_ns))
        for split in self.effective(symbol, tick):
            ratios[opened_at_ns < split.day * NS_PER_DAY] *= split.ratio
        return ratios
