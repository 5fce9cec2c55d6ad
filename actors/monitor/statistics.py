"""Tests and intervals of two samples, and what corrects for several.

scipy is imported where it is used: it is heavy, and other processes import this package. Its
special functions do; `scipy.stats`, which the results agree with, takes three times the memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MIN_EXPECTED = 10  # units in each variant, for chi-square to hold

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean and unbiased variance of a sample; NaN where there are too few values."""

    count: int
    mean: float
    variance: float

    @property
    def error_squared(self) -> float:
        """The square of the mean's standard error."""
        return self.variance / self.count


@dataclass(frozen=True, slots=True)
class Welch:
    """Welch's test of two means; intervals at `level`, of the difference and of the ratio - 1."""

    t: float
    degrees: float
    p_value: float
    difference: float
    interval: tuple[float, float]
    relative_interval: tuple[float, float] | None


def moments_of(values: Floats) -> Moments:
    """Return the moments of values."""
    count = len(values)
    mean = float(values.mean()) if count else math.nan
    return Moments(count, mean, float(values.var(ddof=1)) if count > 1 else math.nan)


def moments_of_sums(count: int, total: float, squares: float) -> Moments:
    """Return the moments of values of which only sums are known."""
    mean = total / count if count else math.nan
    if count < 2:
        return Moments(count, mean, math.nan)
    return Moments(count, mean, max(squares - total * mean, 0.0) / (count - 1))


def welch(control: Moments, variant: Moments, level: float) -> Welch:
    """Compare the means of two samples with unequal variances.

    Welch (1947). The interval of the relative change is Fieller's (1954) with the same degrees of
    freedom, so both leave out "no change" together; None where the control's mean is not
    distinguishable from 0. Samples without any variance differ surely or not at all.
    """
    # Here and not above: 26 MB and half a second that replicas, which count only, never need.
    from scipy.special import stdtr, stdtrit  # type: ignore[import-untyped]

    a, b = control.error_squared, variant.error_squared
    difference = variant.mean - control.mean
    if a + b == 0.0:
        t, degrees = math.copysign(math.inf, difference) if difference else 0.0, math.inf
        return Welch(
            t, degrees, 0.0 if difference else 1.0, difference, (difference, difference),
            _fieller(control, variant, 0.0),
        )  # fmt: skip
    t = difference / math.sqrt(a + b)
    degrees = (a + b) ** 2 / (a * a / (control.count - 1) + b * b / (variant.count - 1))
    quantile = float(stdtrit(degrees, (1 + level) / 2))
    margin = quantile * math.sqrt(a + b)
    return Welch(
        t,
        degrees,
        min(1.0, 2 * float(stdtr(degrees, -abs(t)))),
        difference,
        (difference - margin, difference + margin),
        _fieller(control, variant, quantile),
    )


def margin(sample: Moments, level: float) -> float:
    """Return half of the width of the t interval of a mean at `level`."""
    from scipy.special import stdtrit

    return math.sqrt(sample.error_squared) * float(stdtrit(sample.count - 1, (1 + level) / 2))


def student(control: Moments, variant: Moments) -> float:
    """Return the two-sided p-value of Student's test of two means, with the pooled variance."""
    from scipy.special import stdtr

    degrees = control.count + variant.count - 2
    squares = (control.count - 1) * control.variance + (variant.count - 1) * variant.variance
    error = math.sqrt(squares / degrees * (1 / control.count + 1 / variant.count))
    difference = variant.mean - control.mean
    if error == 0.0:
        return 0.0 if difference else 1.0
    return min(1.0, 2 * float(stdtr(degrees, -abs(difference / error))))


def _fieller(control: Moments, variant: Moments, quantile: float) -> tuple[float, float] | None:
    squared = quantile * quantile
    of_control = control.mean**2 - squared * control.error_squared
    if not of_control > 0.0:
        return None
    of_variant = variant.mean**2 - squared * variant.error_squared
    product = control.mean * variant.mean
    root = math.sqrt(max(product * product - of_control * of_variant, 0.0))
    return (product - root) / of_control - 1, (product + root) / of_control - 1


def mann_whitney(
    values: tuple[Floats, Floats], counts: tuple[Floats, Floats]
) -> tuple[float, float]:
    """Return U of the second sample and its two-sided p-value, from values and how often each is.

    Mann and Whitney (1947), normal approximation with corrections for ties and continuity. U over
    the product of the sizes is the chance that a value of the second sample is the greater, ties
    counted half.
    """
    from scipy.special import ndtr

    levels, inverse = np.unique(np.concatenate(values), return_inverse=True)
    split = len(values[0])
    first = np.bincount(inverse[:split], counts[0], len(levels))
    second = np.bincount(inverse[split:], counts[1], len(levels))
    n1, n2 = float(first.sum()), float(second.sum())
    n = n1 + n2
    u = float(second @ (np.cumsum(first) - first / 2))
    ties = first + second
    variance = n1 * n2 / 12 * (n + 1 - float((ties**3 - ties).sum()) / (n * (n - 1)))
    if variance <= 0.0:
        return u, 1.0
    z = (abs(u - n1 * n2 / 2) - 0.5) / math.sqrt(variance)
    return u, min(1.0, 2 * float(ndtr(-z)))


def two_proportions(
    control: tuple[int, int], variant: tuple[int, int], level: float
) -> tuple[float, float, tuple[float, float]]:
    """Return z, its two-sided p-value and the interval of the difference, of successes in counts.

    z with the pooled proportion; Newcombe's interval (1998, method 10), which holds near 0 and 1.
    """
    from scipy.special import ndtr, ndtri

    p1, p2 = control[0] / control[1], variant[0] / variant[1]
    pooled = (control[0] + variant[0]) / (control[1] + variant[1])
    error = math.sqrt(pooled * (1 - pooled) * (1 / control[1] + 1 / variant[1]))
    z = (p2 - p1) / error if error else 0.0
    quantile = float(ndtri((1 + level) / 2))
    low1, high1 = _wilson(p1, control[1], quantile)
    low2, high2 = _wilson(p2, variant[1], quantile)
    difference = p2 - p1
    interval = (
        difference - math.hypot(p2 - low2, high1 - p1),
        difference + math.hypot(high2 - p2, p1 - low1),
    )
    return z, 2 * float(ndtr(-abs(z))), interval


def fisher(control: tuple[int, int], variant: tuple[int, int]) -> float:
    """Return the two-sided p-value of Fisher's exact test of successes in counts."""
    from scipy.special import gammaln

    successes = control[0] + variant[0]
    k = np.arange(max(0, successes - control[1]), min(successes, variant[1]) + 1)
    logs = -sum(
        gammaln(part + 1)
        for part in (k, variant[1] - k, successes - k, control[1] - successes + k)
    )
    chances = np.exp(logs - logs.max())
    chances /= chances.sum()
    seen = chances[variant[0] - k[0]]
    return min(1.0, float(chances[chances <= seen * (1 + 1e-7)].sum()))


def _wilson(p: float, count: int, quantile: float) -> tuple[float, float]:
    squared = quantile * quantile
    centre = p + squared / (2 * count)
    margin = quantile * math.sqrt(p * (1 - p) / count + squared / (4 * count * count))
    scale = 1 + squared / count
    return (centre - margin) / scale, (centre + margin) / scale


def chi_square(observed: Sequence[int], shares: Sequence[float]) -> float | None:
    """Return the p-value of counts against shares of their sum; None where too few to tell."""
    from scipy.special import chdtrc

    total = sum(observed)
    expected = [share / sum(shares) * total for share in shares]
    if min(expected) < _MIN_EXPECTED:
        return None
    pairs = zip(observed, expected, strict=True)
    statistic = sum((seen - due) ** 2 / due for seen, due in pairs)
    return float(chdtrc(len(observed) - 1, statistic))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted so that the chance of any false verdict holds; Holm (1979)."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for passed, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - passed)))
        adjusted[index] = highest
    return adjusted
