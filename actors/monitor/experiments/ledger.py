"""What was measured in an A/B test, as bounded sums that processes merge and JSON keeps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

MAX_UNITS = 50_000  # kept of each variant
MAX_METRICS = 20  # names of a variant's own metrics

# Latency falls into bins of 1 % each, so a quantile is within half a percent of the true one.
LOWEST_MS, HIGHEST_MS = 0.01, 600_000.0
_GROWTH = math.log(1.01)
_OFFSET = math.log(LOWEST_MS) / _GROWTH
BINS = math.ceil(math.log(HIGHEST_MS / LOWEST_MS) / _GROWTH)

Plain = dict[str, dict[str, Any]]


class Sums:
    """One variant's sums.

    `units`: by unit its requests, sum of ms and successes. Of more than MAX_UNITS a sample is
    kept, drawn by a hash of the unit: those below `share` of its range, all their requests with
    them. So a unit that is kept is whole, and the sample does not favour early or busy units.
    `metrics`: by name the count and the sum of its values.
    """

    __slots__ = (
        "bins",
        "exposures",
        "metrics",
        "metrics_dropped",
        "requests",
        "share",
        "successes",
        "sum_ms",
        "sum_sq",
        "units",
    )

    def __init__(self) -> None:
        self.requests = 0
        self.successes = 0
        self.exposures = 0
        self.sum_ms = 0.0
        self.sum_sq = 0.0
        self.bins: dict[int, int] = {}
        self.units: dict[str, list[float]] = {}
        self.share = 1.0
        self.metrics: dict[str, list[float]] = {}
        self.metrics_dropped = 0

    def add(self, unit: str, ms: float, success: bool) -> None:
        """Count one request; `unit` is "" where requests are the units."""
        self.requests += 1
        self.successes += success
        self.sum_ms += ms
        self.sum_sq += ms * ms
        place = bin_of(ms)
        self.bins[place] = self.bins.get(place, 0) + 1
        if unit:
            self._add_unit(unit, 1, ms, success)

    def add_metric(self, name: str, count: float, total: float) -> None:
        """Add values of a metric; a name beyond the twentieth is only counted as dropped."""
        sums = self.metrics.get(name)
        if sums is not None:
            sums[0] += count
            sums[1] += total
        elif len(self.metrics) < MAX_METRICS:
            self.metrics[name] = [count, total]
        else:
            self.metrics_dropped += int(count)

    def merge(self, other: Mapping[str, Any]) -> None:
        """Add what another process's `as_dict` says."""
        self.requests += other["requests"]
        self.successes += other["successes"]
        self.exposures += other["exposures"]
        self.sum_ms += other["sum_ms"]
        self.sum_sq += other["sum_sq"]
        self.metrics_dropped += other["metrics_dropped"]
        for place, count in other["bins"]:
            self.bins[place] = self.bins.get(place, 0) + count
        for name, (count, total) in other["metrics"].items():
            self.add_metric(name, count, total)
        if other["share"] < self.share:
            self._thin(other["share"])
        for unit, (count, ms, successes) in other["units"].items():
            self._add_unit(unit, count, ms, successes)

    def as_dict(self) -> dict[str, Any]:
        """Return plain types; what they hold is not copied."""
        return {name: getattr(self, name) for name in self.__slots__} | {
            "bins": [list(pair) for pair in sorted(self.bins.items())]
        }

    @property
    def units_dropped(self) -> int:
        """About how many units are not kept, by the share of those that are."""
        return round(len(self.units) * (1 / self.share - 1))

    def units_within(self, share: float) -> int:
        """Return how many units a sample of this share holds; `share` is not above the own."""
        if share == self.share:
            return len(self.units)
        return sum(_rank(unit) < share for unit in self.units)

    def quantile_ms(self, share: float) -> float | None:
        """Return the latency that so great a share of requests is not above, None without any.

        The nearest rank, to half a percent; 0.01 ms and 10 minutes stand for all beyond them.
        """
        rank = max(1, math.ceil(share * self.requests))
        passed = 0
        for place, count in sorted(self.bins.items()):
            passed += count
            if passed >= rank:
                return middle_ms(place)
        return None

    def _add_unit(self, unit: str, count: float, ms: float, successes: float) -> None:
        sums = self.units.get(unit)
        if sums is not None:
            sums[0] += count
            sums[1] += ms
            sums[2] += successes
        elif self.share == 1.0 or _rank(unit) < self.share:
            self.units[unit] = [count, ms, int(successes)]
            while len(self.units) > MAX_UNITS:
                self._thin(self.share / 2)

    def _thin(self, share: float) -> None:
        self.share = share
        self.units = {unit: sums for unit, sums in self.units.items() if _rank(unit) < share}


class Tally:
    """What one process saw of a test since it was last taken."""

    def __init__(self) -> None:
        self._variants: dict[str, Sums] = {}

    def expose(self, variant_id: str) -> None:
        """Count a request that was given the variant, however it ends."""
        self._of(variant_id).exposures += 1

    def add(
        self,
        variant_id: str,
        unit: str,
        ms: float,
        success: bool,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Count a request that ended.

        `unit` is what `hashed` gives in a sticky test and "" in a random one. Raises ValueError,
        and counts nothing, for a time that is negative and for any value that is not finite.
        """
        if not 0.0 <= ms < math.inf:
            raise ValueError(f"a response time of {ms} ms cannot be")
        for name, value in (metrics or {}).items():
            if not math.isfinite(value):
                raise ValueError(f"metric {name[:80]!r} is {value}, which is no number to average")
        sums = self._of(variant_id)
        sums.add(unit, ms, success)
        for name, value in (metrics or {}).items():
            sums.add_metric(name, 1, value)

    def take(self) -> Plain:
        """Return all that was counted, in plain types, and begin again; {} if there is nothing."""
        taken, self._variants = self._variants, {}
        return {variant_id: sums.as_dict() for variant_id, sums in taken.items()}

    def _of(self, variant_id: str) -> Sums:
        sums = self._variants.get(variant_id)
        if sums is None:
            sums = self._variants[variant_id] = Sums()
        return sums


class Ledger:
    """All that was measured in a test, by variant."""

    def __init__(self, variant_ids: Iterable[str]) -> None:
        self._variants = {variant_id: Sums() for variant_id in variant_ids}

    def __getitem__(self, variant_id: str) -> Sums:
        return self._variants[variant_id]

    def merge(self, tally: Plain) -> None:
        """Add what a process took; raises ValueError, and adds nothing, for an unknown variant."""
        unknown = tally.keys() - self._variants.keys()
        if unknown:
            raise ValueError(f"the test has no variant {sorted(unknown)[0][:80]!r}")
        for variant_id, sums in tally.items():
            self._variants[variant_id].merge(sums)

    def as_dict(self) -> Plain:
        """Return plain types that JSON takes; what they hold is not copied."""
        return {variant_id: sums.as_dict() for variant_id, sums in self._variants.items()}

    @classmethod
    def from_dict(cls, body: Plain) -> Ledger:
        """Return what `as_dict` was made of, sharing nothing with it."""
        made = cls(body)
        made.merge(body)
        return made

    def copy(self) -> Ledger:
        """Return a ledger that no longer changes with this one."""
        return Ledger.from_dict(self.as_dict())

    def statistics(self) -> dict[str, dict[str, Any]]:
        """Return each variant's figures over its requests.

        Rates are percentages, times milliseconds; None where no request was seen.
        """
        return {variant_id: _statistics(sums) for variant_id, sums in self._variants.items()}


def bin_of(ms: float) -> int:
    """Return the number of the bin of a latency, 0 to BINS - 1."""
    if ms <= LOWEST_MS:
        return 0
    return min(int(math.log(ms) / _GROWTH - _OFFSET), BINS - 1)


def middle_ms(place: int) -> float:
    """Return the geometric middle of a bin."""
    return math.exp((place + 0.5 + _OFFSET) * _GROWTH)


def _rank(unit: str) -> float:
    digest = blake2b(unit.encode(), digest_size=4, person=b"sample").digest()
    return int.from_bytes(digest) / 2**32


def _statistics(sums: Sums) -> dict[str, Any]:
    count = sums.requests
    success = sums.successes / count * 100 if count else None
    metrics = {f"avg_{name}": total / n for name, (n, total) in sorted(sums.metrics.items())}
    return {
        "sample_size": count,
        "success_rate": success,
        "avg_response_time": sums.sum_ms / count if count else None,
        "median_response_time": sums.quantile_ms(0.5),
        "p95_response_time": sums.quantile_ms(0.95),
        "error_rate": None if success is None else 100 - success,
        "conversion_rate": None,  # nothing here is a conversion
        "custom_metrics": metrics,
        "metrics_dropped": sums.metrics_dropped,
        "exposures": sums.exposures,
        "identifiers": len(sums.units),
        "units_dropped": sums.units_dropped,
    }
