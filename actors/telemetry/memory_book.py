"""What was measured of memory, what was wrong with it, and what was given back."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from infra.caches.hit_rate import Reads
from infra.memory.health import Worry, worries
from infra.memory.trend import Change, Slope, change_of, is_leak, slope_of
from infra.memory.usage import MIB, MemoryUse

_KEPT_S = 86_400.0
_MOST_SAMPLES = 2_000
_ALERTS, _OPTIMISATIONS = 50, 100


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory of the whole service at one moment.

    `processes_bytes`: resident, by role and pid. `tree_bytes`: of all processes on the service's
    machine, Ray's own too, shared pages shared out. `reads` are of all caches so far, `new_reads`
    those since the sample before.
    """

    at_s: float
    use: MemoryUse
    processes_bytes: Mapping[str, int]
    tree_bytes: int
    tree_processes: int
    store_used_bytes: int
    store_bytes: int
    cached_items: int
    cache_bytes: int
    reads: Reads
    new_reads: Reads
    uncollectable: int

    @property
    def hit_rate_pct(self) -> float | None:
        """Return the hit rate since the sample before, None of too few reads."""
        return self.new_reads.judged_pct

    def shown(self) -> dict[str, Any]:
        """Return it as history tells it."""
        return {
            "timestamp": self.at_s,
            "memory_usage_mb": round(self.tree_bytes / MIB, 2),
            "memory_percent": round(self.use.system_pct, 2),
            "available_mb": round(self.use.available_bytes / MIB, 2),
            "cache_hit_rate": None if self.hit_rate_pct is None else round(self.hit_rate_pct, 2),
            "total_cached_items": self.cached_items,
            "cache_mb": round(self.cache_bytes / MIB, 2),
            "object_store_used_mb": round(self.store_used_bytes / MIB, 2),
            "processes_mb": {p: round(b / MIB, 2) for p, b in self.processes_bytes.items()},
        }


@dataclass(frozen=True, slots=True)
class MemoryTrend:
    """How memory and hit rates moved, and whether something grows."""

    memory: Change | None
    hit_rate: Change | None
    slope: Slope | None
    leaks: tuple[str, ...]


class MemoryBook:
    """Samples of a day, alerts, and what shedding did. State: soft.

    A lasting worry is one alert; it is given again once it was over.
    """

    def __init__(self, hit_warn_pct: float) -> None:
        self._hit_warn_pct = hit_warn_pct
        self.samples: deque[Sample] = deque(maxlen=_MOST_SAMPLES)
        self.alerts: deque[dict[str, Any]] = deque(maxlen=_ALERTS)
        self.optimisations: deque[dict[str, Any]] = deque(maxlen=_OPTIMISATIONS)
        self._lasting: set[str] = set()

    def take(self, sample: Sample) -> list[Worry]:
        """Keep a sample; return the worries that are new with it."""
        self.samples.append(sample)
        while self.samples[0].at_s < sample.at_s - _KEPT_S:
            self.samples.popleft()
        found = self.worries(sample)
        new = [worry for worry in found if _kind(worry) not in self._lasting]
        self._lasting = {_kind(worry) for worry in found}
        self.alerts.extend({"timestamp": sample.at_s, **asdict(worry)} for worry in new)
        return new

    def worries(self, sample: Sample) -> list[Worry]:
        """Return what is wrong at a sample."""
        leaks = self.trend(sample.at_s).leaks
        found = worries(sample.use, sample.uncollectable, "; ".join(leaks))
        rate = sample.hit_rate_pct
        if rate is not None and rate < self._hit_warn_pct:
            count = sample.new_reads.count
            found.append(Worry("warning", f"caches found {rate:.0f} % of {count:.0f} reads"))
        return found

    def since(self, hours: float, now_s: float) -> list[Sample]:
        """Return the samples of the last `hours`."""
        return [sample for sample in self.samples if now_s - sample.at_s <= hours * 3_600]

    def trend(self, now_s: float) -> MemoryTrend:
        """Return the last hour against the one before, and what grows steadily."""
        samples = list(self.samples)
        times = [s.at_s for s in samples]
        trees = [s.tree_bytes for s in samples]
        rated = [(s.at_s, s.hit_rate_pct) for s in samples if s.hit_rate_pct is not None]
        return MemoryTrend(
            change_of(times, trees, now_s),
            change_of([at_s for at_s, _ in rated], [rate for _, rate in rated], now_s),
            slope_of(times, trees),
            tuple(self._leaks(samples)),
        )

    def _leaks(self, samples: list[Sample]) -> list[str]:
        """Name the processes that grew for two hours and more, as sure as 95 %."""
        if not samples or samples[-1].at_s - samples[0].at_s < 2 * 3_600:
            return []
        found = []
        for process in samples[-1].processes_bytes:
            points = [(s.at_s, s.processes_bytes[process]) for s in samples
                      if process in s.processes_bytes]  # fmt: skip
            if points[-1][0] - points[0][0] < 2 * 3_600:
                continue
            times, sizes = [at_s for at_s, _ in points], [size for _, size in points]
            slope = slope_of(times, sizes)
            if slope is not None and is_leak(slope, sum(sizes) / len(sizes)):
                found.append(f"{process} grows by {slope.per_h / MIB:.1f} MB an hour")
        return found


def _kind(worry: Worry) -> str:
    """Return a worry without its figures, which change while it lasts."""
    return worry.level + "".join(c for c in worry.message if not c.isdigit())
