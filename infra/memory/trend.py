"""Where memory goes: the last hour against the one before, and the slope over many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

import numpy as np

_HOUR_S = 3_600.0
_LEAST_POINTS = 12
_Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Slope:
    """A slope in units an hour, with its 95 % interval."""

    per_h: float
    low_per_h: float
    high_per_h: float
    points: int


@dataclass(frozen=True, slots=True)
class Change:
    """Means of the last hour and of the hour before; None where one has no points."""

    recent: float
    before: float
    recent_points: int
    before_points: int

    @property
    def pct(self) -> float:
        """Return by how many per cent the mean moved."""
        return 100 * (self.recent - self.before) / self.before if self.before else 0.0


def change_of(times_s: Sequence[float], values: Sequence[float], now_s: float) -> Change | None:
    """Return the last hour's mean against that of the hour before, None without both."""
    recent = [v for t, v in zip(times_s, values, strict=True) if now_s - t < _HOUR_S]
    before = [v for t, v in zip(times_s, values, strict=True) if 1 <= (now_s - t) / _HOUR_S < 2]
    if not recent or not before:
        return None
    return Change(fmean(recent), fmean(before), len(recent), len(before))


def slope_of(times_s: Sequence[float], values: Sequence[float]) -> Slope | None:
    """Return the median of all pairwise slopes, which single peaks do not move, or None.

    Theil's estimate and Sen's interval (Sen 1968, "Estimates of the Regression Coefficient Based
    on Kendall's Tau"), without his correction for ties. None for under twelve points.
    """
    count = len(values)
    if count < _LEAST_POINTS:
        return None
    times, heights = np.asarray(times_s) / _HOUR_S, np.asarray(values, dtype=float)
    first, second = np.triu_indices(count, k=1)
    spans = times[second] - times[first]
    apart = spans > 0
    slopes = np.sort((heights[second] - heights[first])[apart] / spans[apart])
    if not len(slopes):
        return None
    spread = _Z95 * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = max(0, math.floor((len(slopes) - spread) / 2))
    high = min(len(slopes) - 1, math.ceil((len(slopes) + spread) / 2))
    middle = float(np.median(slopes))
    return Slope(middle, float(slopes[low]), float(slopes[high]), count)


def is_leak(slope: Slope | None, mean: float, least_pct_per_h: float = 1.0) -> bool:
    """Return whether growth is sure, and fast enough to matter: 1 % of the mean an hour."""
    return slope is not None and mean > 0 and slope.low_per_h > mean * least_pct_per_h / 100
