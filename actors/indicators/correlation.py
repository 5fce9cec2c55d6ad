"""How the returns of symbols moved together."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from infra.bars import Floats, Ints


@dataclass(frozen=True, slots=True, eq=False)
class Correlation:
    """`matrix` (n, n): Pearson's correlation of log returns, NaN where one never moved.

    `bars`: how many bars all symbols have in common, from which the returns come.
    """

    symbols: tuple[str, ...]
    matrix: Floats
    bars: int


def correlation(closes: Mapping[str, tuple[Ints, Floats]]) -> Correlation:
    """Return the correlation of log returns between bars that all symbols have.

    `closes`: opening times (int64 ns) and closes of each symbol, oldest first.
    """
    symbols = tuple(closes)
    common = functools.reduce(np.intersect1d, (stamps for stamps, _ in closes.values()))
    if len(common) < 3:
        return Correlation(symbols, np.full((len(symbols),) * 2, np.nan), len(common))
    rows = [line[np.isin(stamps, common)] for stamps, line in closes.values()]
    returns = np.diff(np.log(np.array(rows)), axis=1)
    moved = returns.std(axis=1) > 0
    matrix = np.full((len(symbols), len(symbols)), np.nan)
    if moved.any():
        matrix[np.ix_(moved, moved)] = np.atleast_2d(np.corrcoef(returns[moved]))
    return Correlation(symbols, np.clip(matrix, -1.0, 1.0), len(common))
