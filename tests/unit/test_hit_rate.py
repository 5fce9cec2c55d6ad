"""One hit rate: whoever shows or judges caches says the same of the same reads."""

from __future__ import annotations

from infra.caches.base import CacheStats
from infra.caches.hit_rate import LEAST_READS, Reads, all_reads, read_counts, reads_by_cache
from infra.memory.health import cache_health
from infra.metrics import Families
from serve.rest.memory_view import overall_rate_pct
from tests.unit.test_readings import read, reads

COUNTS = {
    ("prices", "near", "hit"): 60.0,
    ("prices", "near", "stale"): 5.0,
    ("prices", "near", "miss"): 35.0,
    ("prices", "shared", "hit"): 15.0,
    ("prices", "shared", "miss"): 20.0,
}
STATS = [
    CacheStats("prices", "near", 1, hits=60, stale_hits=5, misses=35),
    CacheStats("prices", "shared", 1, hits=15, misses=20),
]


def test_a_read_counts_once_wherever_it_is_counted() -> None:
    families: Families = reads(COUNTS)
    found = read({}, families)
    assert all_reads(read_counts(STATS)) == Reads(80.0, 20.0)
    assert reads_by_cache(read_counts(STATS)) == {"prices": Reads(80.0, 20.0)}
    assert found.cache_hit_rate == overall_rate_pct(families) == 80.0
    assert (found.cache_reads, found.hit_rates) == (100, {"prices": 80.0})


def test_a_rate_of_few_reads_is_shown_and_not_judged() -> None:
    few, enough = Reads(0, LEAST_READS - 1), Reads(0, LEAST_READS)
    assert (few.rate_pct, few.judged_pct) == (0.0, None)
    assert (enough.rate_pct, enough.judged_pct) == (0.0, 0.0)
    assert (Reads().rate_pct, Reads().judged_pct) == (None, None)
    assert [cache_health(one.judged_pct) for one in (few, enough)] == ["unknown", "critical"]


def test_what_was_added_since_is_all_where_counting_began_anew() -> None:
    assert Reads(10, 5).since(Reads(4, 1)) == Reads(6, 4)
    assert Reads(3, 2).since(Reads(10, 5)) == Reads(3, 2)
