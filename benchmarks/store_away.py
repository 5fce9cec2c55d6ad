"""Ticks to the hub while the store is there, and while it is not."""

from __future__ import annotations

from benchmarks.feed import tick_latencies_ms
from benchmarks.report import Claim, Report, Table
from benchmarks.service import Bench
from benchmarks.stats import Summary, ratio

NAME = "store_away"
_MOST_OF_THERE = 1.25  # of the medians of p99; two runs of the same differ by as much

_METHOD = """The whole service on a fake Yahoo that sends 500 symbols 5 ticks a second, for ten
seconds, followed as in feed.md; once with its SQLite store, once with a MySQL store at an address
where nobody listens. Rounds take turns, each with a service of its own."""


def run(bench: Bench) -> Report:
    """Measure services one after the other, or what was given."""
    is_tiny = bench.given is not None
    rounds, seconds = (1, 1) if is_tiny else (3, 10)
    nowhere = {"FINSTAGE_DATABASE_URL": "mysql://nobody@127.0.0.1:9/none"}
    p99_ms: dict[str, list[float]] = {"store there": [], "store away": []}
    medians_ms: dict[str, list[float]] = {"store there": [], "store away": []}
    for number in range(rounds):
        bench.tell(f"round {number + 1}")
        for name in p99_ms:
            settings = nowhere if name == "store away" else {}
            found = tick_latencies_ms(bench, seconds, **settings) or [0.0]
            p99_ms[name].append(Summary.of(found).p99)
            medians_ms[name].append(Summary.of(found).median)
    changed = ratio(p99_ms["store away"], p99_ms["store there"]) if not is_tiny else 1.0
    claim = Claim(
        "tick to hub, p99 with the store away: as with it",
        f"{changed:.2f} x",
        changed <= _MOST_OF_THERE,
    )
    rows = [
        (name, Summary.of(medians_ms[name]).shown(1), Summary.of(p99_ms[name]).shown(1))
        for name in p99_ms
    ]
    table = Table("milliseconds", ("how", "median (range)", "p99 (range)"), rows)
    samples = {"p99_ms": p99_ms, "median_ms": medians_ms}
    return Report(NAME, "Ticks without a store", _METHOD, [claim], [table], samples)
