"""A miss, beside what it cannot do without: a hot GET, an actor call, the computation."""

from __future__ import annotations

import subprocess

import numpy as np
import orjson

from benchmarks.batch import settled_calls
from benchmarks.client import Connection
from benchmarks.peers import bare_talib
from benchmarks.peers.route import PATH
from benchmarks.report import Claim, Report, Table
from benchmarks.service import Bench, peer
from benchmarks.stats import Summary, ratio_interval
from infra.bars import Bars

NAME = "miss"
TIMES_SCRIPT = 3
_BLOCK = 25

Samples = dict[str, list[list[float]]]  # by what was timed: the milliseconds of each round

_OTHERS = (PATH.replace("1y", "2y"), PATH.replace("1y", "5y"))
_HOT, _MISS, _OPEN, _ALIVE = "hot GET", "miss", "miss with the open bar", "route without an actor"
_CALL, _SCRIPT = "bare actor call", "TA-Lib and JSON alone"
_MEANING = {
    _HOT: "from memory",
    _MISS: "a question that memory does not hold: computed, rendered, kept",
    _OPEN: "`open_bar=true`, which is never kept and adds the bar under way",
    _ALIVE: "`/health/live`: HAProxy and FastAPI, no actor",
    _CALL: "an async method that returns its argument, awaited in a driver on the same Ray",
    _SCRIPT: "the same TA-Lib calls on the same bars and orjson, in this process",
}
_METHOD = f"""Finstage keeps a single answer (`FINSTAGE_NEAR_CACHE_ENTRIES=1`; all else has its
defaults, the replay plays). One client on one kept connection asks in blocks of {_BLOCK}: for
`{PATH}` (hot, after one that is dropped), then for two other periods of the same symbol in turn,
each of which drops the other (miss: computed, rendered and kept; as many bars, an answer of the
same size). Then the bare actor is called as often, one call at a time, from a driver process on
the same Ray (uvloop), and the bare script runs as often. The first round is dropped. That misses
were misses is checked by the actor calls in `/metrics`. Budget = hot GET + actor call +
{TIMES_SCRIPT} × script, of medians over all requests; the interval is 95 %, by bootstrap over
rounds."""


def run(bench: Bench) -> Report:
    """Measure everything in alternation, on one service."""
    with (
        bench.service(FINSTAGE_NEAR_CACHE_ENTRIES="1") as target,
        peer("bare_actor", str(target.settings.data_dir)) as actor,
        Connection(target.url) as client,
    ):
        before = settled_calls(client, "indicators|indicators_json")
        samples = measure(bench, client, actor)
        calls = settled_calls(client, "indicators|indicators_json") - before
    asked = (bench.size.rounds + 1) * bench.size.requests
    if bench.given is None and calls < 2 * asked:  # misses, and those with the open bar
        raise RuntimeError(f"{calls:g} actor calls for {2 * asked} misses: some were none")
    return report(samples)


def measure(bench: Bench, client: Connection, actor: subprocess.Popen[bytes]) -> Samples:
    """Return the times of all rounds but the first."""
    samples: Samples = {name: [] for name in _MEANING}
    about = orjson.loads(client.get(PATH))
    bars = bars_of(client, "AAPL")
    for number in range(bench.size.rounds + 1):
        bench.tell(f"round {number} of {bench.size.rounds}")
        for name, times in _http_round(client, bench.size.requests).items():
            samples[name].append(times)
        samples[_CALL].append(_actor_times(actor, bench.size.requests))
        samples[_SCRIPT].append(bare_talib.times(bars, about, bench.size.requests))
    return {name: rounds[1:] for name, rounds in samples.items()}


def bars_of(client: Connection, symbol: str) -> Bars:
    """Return the adjusted closed bars that the service has of a symbol."""
    found = orjson.loads(client.get(f"/api/v2/prices/{symbol}/history?period=max"))
    stamps, volume = (np.array(found[name], np.int64) for name in ("timestamps", "volume"))
    open_, high, low, close = (
        np.array(found[name], np.float64) for name in ("open", "high", "low", "close")
    )
    return Bars(stamps * 10**9, open_, high, low, close, volume)


def _http_round(client: Connection, count: int) -> dict[str, list[float]]:
    targets = {
        _HOT: (PATH, PATH),
        _MISS: _OTHERS,
        _OPEN: (f"{PATH}&open_bar=true",) * 2,
        _ALIVE: ("/health/live",) * 2,
    }
    times: dict[str, list[float]] = {name: [] for name in targets}
    for done in range(0, count, _BLOCK):
        for name, turns in targets.items():
            client.get(turns[-1])
            for number in range(min(_BLOCK, count - done)):
                times[name].append(client.timed_get(turns[number % 2]))
    return times


def _actor_times(actor: subprocess.Popen[bytes], count: int) -> list[float]:
    assert actor.stdin is not None
    assert actor.stdout is not None
    actor.stdin.write(b"%d\n" % count)
    actor.stdin.flush()
    times: list[float] = orjson.loads(actor.stdout.readline())
    return times


def report(samples: Samples) -> Report:
    """Return the table and the claim."""
    flat = {name: [t for times in rounds for t in times] for name, rounds in samples.items()}
    found = {name: Summary.of(times) for name, times in flat.items()}
    budget = found[_HOT].median + found[_CALL].median + TIMES_SCRIPT * found[_SCRIPT].median
    misses, budgets = _by_round(samples)
    low, high = ratio_interval(misses, budgets)
    took = found[_MISS].median
    shown = f"{took:.2f} ms of {budget:.2f} ms: {took / budget:.2f} × ({low:.2f} to {high:.2f})"
    text = f"at most a hot GET, a bare actor call and {TIMES_SCRIPT} × TA-Lib and JSON alone"
    result = Report(NAME, "Miss: bars in memory, nothing cached", _METHOD)
    result.claims.append(Claim(text, shown, took <= budget))
    result.tables.append(_table(found))
    result.samples = {"milliseconds": samples}
    return result


def _by_round(samples: Samples) -> tuple[list[float], list[float]]:
    medians: dict[str, list[float]] = {
        name: [Summary.of(times).median for times in rounds] for name, rounds in samples.items()
    }
    budgets = [
        hot + call + TIMES_SCRIPT * script
        for hot, call, script in zip(medians[_HOT], medians[_CALL], medians[_SCRIPT], strict=True)
    ]
    return medians[_MISS], budgets


def _table(found: dict[str, Summary]) -> Table:
    rows: list[tuple[str, ...]] = [
        (
            name,
            f"{s.median:.3f}",
            f"{s.lower_quartile:.3f} to {s.upper_quartile:.3f}",
            f"{s.p99:.3f}",
            str(s.count),
            _MEANING[name],
        )
        for name, s in found.items()
    ]
    header = ("ms", "median", "quartiles", "p99", "times", "what it is")
    return Table("Times of one client", header, rows)
