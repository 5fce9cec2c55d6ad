"""Readings before and after something changed: windows of them, and how their means moved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import fmean

import numpy as np

from actors.monitor.reading import Reading
from actors.monitor.statistics import Moments, margin, moments_of, welch

# A lag-1 correlation of 0.5 between readings 10 s apart leaves 0.14 between means of a minute;
# an estimate from so few values may say less by chance, so it is not believed below that.
_CORRELATION_MIN, _CORRELATION_MAX = 0.14, 0.9


def within(readings: Sequence[Reading], window_s: float, now_s: float) -> list[Reading]:
    """Return the readings that were taken in the last `window_s` seconds."""
    return [reading for reading in readings if now_s - window_s < reading.at_s <= now_s]


def between(readings: Sequence[Reading], start_s: float, end_s: float) -> list[Reading]:
    """Return the readings whose whole span lies from `start_s` to `end_s`."""
    return [one for one in readings if one.at_s <= end_s and one.at_s - one.span_s >= start_s]


def measured(readings: Sequence[Reading], metric: str) -> list[float]:
    """Return the values of a metric, without those that were not measured."""
    return [value for one in readings if (value := one.value(metric)) is not None]


class MeanChange:
    """How the mean of a metric moved, from `was` to `now`, by Welch's t interval.

    `error_rate`: of each side, that what is certain is chance. `is_series`: values are in the
    order of time, and standard errors are widened for the correlation between neighbours. Both
    sides need five values. A margin is half of an interval's width.
    """

    def __init__(
        self,
        was: Sequence[float],
        now: Sequence[float],
        error_rate: float,
        is_series: bool = False,
    ) -> None:
        widening = _widening(was, now) if is_series else 1.0
        old, new = _moments(was, widening), _moments(now, widening)
        level = 1 - 2 * error_rate
        found = welch(old, new, level)
        self.was, self.now, self.difference = old.mean, new.mean, found.difference
        self.was_margin, self.now_margin = margin(old, level), margin(new, level)
        # What sums leave of rounding is no change.
        rounding = 1e-9 * max(abs(self.was), abs(self.now))
        self.margin = max(rounding, found.interval[1] - found.difference)

    def is_certain(self, sign: int) -> bool:
        """Return whether the mean rose (`sign` 1) or fell (-1)."""
        return sign * self.difference > self.margin

    @property
    def percent(self) -> float | None:
        """The change in per cent of what was; None of nothing."""
        return percent_of(self.difference, self.was)

    @property
    def interval(self) -> tuple[float, float]:
        """The ends between which the difference is, in the metric's unit."""
        return self.difference - self.margin, self.difference + self.margin


def percent_of(difference: float, was: float) -> float | None:
    """Return a difference in per cent of what was; None of nothing."""
    return 100.0 * difference / abs(was) if was else None


def _moments(values: Sequence[float], widening: float) -> Moments:
    found = moments_of(np.array(values, np.float64))
    return replace(found, variance=found.variance * widening)


def _widening(was: Sequence[float], now: Sequence[float]) -> float:
    """Return what the variance of a mean grows by, (1 + r) / (1 - r), if neighbours correlate."""
    rows = [[value - fmean(row) for value in row] for row in (was, now)]
    squares = math.fsum(one * one for row in rows for one in row)
    products = math.fsum(a * b for row in rows for a, b in pairwise(row))
    estimate = products / squares if squares else 0.0
    correlation = min(max(estimate, _CORRELATION_MIN), _CORRELATION_MAX)
    return (1 + correlation) / (1 - correlation)
