"""Medians, their spread, and how sure a ratio of two medians is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

_RESAMPLES = 5_000


@dataclass(frozen=True, slots=True)
class Summary:
    """What the samples of one thing look like, in their unit."""

    count: int
    median: float
    lower_quartile: float
    upper_quartile: float
    least: float
    most: float
    p99: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Self:
        """Return the summary of one sample or more."""
        low, middle, high, p99 = np.percentile(samples, [25, 50, 75, 99])
        ends = float(min(samples)), float(max(samples))
        return cls(len(samples), float(middle), float(low), float(high), *ends, float(p99))

    def shown(self, digits: int = 2) -> str:
        """Return the median with the range, for tables."""
        ends = f"{self.least:,.{digits}f} to {self.most:,.{digits}f}"
        return f"{self.median:,.{digits}f} ({ends})"


def ratio_interval(
    above: Sequence[float], below: Sequence[float], seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of median(above) / median(below).

    Both are resampled by themselves; `seed` makes it the same each time.
    """
    rng = np.random.default_rng(seed)
    medians = [
        np.median(rng.choice(np.asarray(samples), (_RESAMPLES, len(samples))), axis=1)
        for samples in (above, below)
    ]
    low, high = np.percentile(medians[0] / medians[1], [2.5, 97.5])
    return float(low), float(high)


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return median(above) / median(below)."""
    return float(np.median(above) / np.median(below))
