"""The figures of this process's caches as metrics, read when metrics are."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from infra.caches.hit_rate import read_counts
from infra.caches.named import NamedCaches, caches
from infra.metrics import REGISTRY

READS, ENDS = "finstage_cache_reads", "finstage_cache_entries_gone"
SETS, REFUSED = "finstage_cache_sets", "finstage_cache_refused"
ENTRIES, BYTES = "finstage_cache_entries", "finstage_cache_bytes"
MAX_ENTRIES, MAX_BYTES = "finstage_cache_max_entries", "finstage_cache_max_bytes"
SHARED_UP, SHARED_FAILURES = "finstage_cache_shared_up", "finstage_cache_shared_failures"


class CacheFigures(Collector):
    """Counts by cache and level; what is held by process too."""

    def __init__(self, process: str, chosen: NamedCaches = caches) -> None:
        self._process = process
        self._caches = chosen

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, read now."""
        of = ["cache", "level"]
        reads = CounterMetricFamily(
            READS, "Reads of caches, by result (hit, stale, miss).", labels=[*of, "result"]
        )
        gone = CounterMetricFamily(
            ENDS,
            "Entries that left caches: evicted, expired, changed (new data), deleted.",
            labels=[*of, "reason"],
        )
        sets = CounterMetricFamily(SETS, "Entries that caches took.", labels=of)
        refused = CounterMetricFamily(
            REFUSED, "Entries that caches did not take: too large, or old already.", labels=of
        )
        gauges = [
            GaugeMetricFamily(ENTRIES, "Entries in caches.", labels=[*of, "process"]),
            GaugeMetricFamily(BYTES, "Bytes in caches.", labels=[*of, "process"]),
            GaugeMetricFamily(MAX_ENTRIES, "Most entries in caches.", labels=[*of, "process"]),
            GaugeMetricFamily(MAX_BYTES, "Most bytes in caches.", labels=[*of, "process"]),
        ]
        stats = list(self._caches.stats())
        for named, count in read_counts(stats):
            reads.add_metric(list(named.values()), count)
        for s in stats:
            labels = [s.name, s.level]
            for reason, count in (
                ("evicted", s.evictions),
                ("expired", s.expirations),
                ("changed", s.invalidations),
                ("deleted", s.deletes),
            ):
                gone.add_metric([*labels, reason], count)
            sets.add_metric(labels, s.sets)
            refused.add_metric(labels, s.refused)
            held = (s.entries, s.bytes, s.max_entries, s.max_bytes)
            for gauge, value in zip(gauges, held, strict=True):
                gauge.add_metric([*labels, self._process], value)
        yield from (reads, gone, sets, refused, *gauges)
        yield from self._shared()

    def _shared(self) -> Iterator[Metric]:
        level = self._caches.level
        if level is None:
            return
        state = level.state
        up = GaugeMetricFamily(
            SHARED_UP, "Whether the shared level answers.", labels=["backend", "process"]
        )
        up.add_metric([state.backend, self._process], float(state.is_there))
        failures = CounterMetricFamily(
            SHARED_FAILURES, "Calls that the shared level did not answer.", labels=["backend"]
        )
        failures.add_metric([state.backend], state.failures)
        yield from (up, failures)


def count_caches(process: str) -> None:
    """Let the metrics of this process tell of its caches, once."""
    if process not in _counted:
        _counted.add(process)
        REGISTRY.register(CacheFigures(process))


_counted: set[str] = set()
