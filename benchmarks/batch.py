"""Indicators of many symbols: one actor call, whatever the number, beside one call for each."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

import orjson

from benchmarks.client import Connection
from benchmarks.report import Claim, Report, Table
from benchmarks.service import Bench
from benchmarks.stats import Summary, ratio, ratio_interval

NAME = "batch"
_BATCH = "/api/v2/technical-analysis/batch/indicators"
_METRICS_WITHIN_S = 10.0
_ROUNDS = 5
_WARM_UP = 30

_METHOD = """One client on one kept connection posts to `batch/indicators` with 1, half and all of
the source's symbols; then it posts the same symbols one at a time. The calls are those that
`/metrics` counts for the indicator actor. Metrics come late, so after each block one GET of
another kind marks its end: its count and that of the calls before it come in the same report.
The sizes take turns, after a warm-up that is dropped."""

Times = dict[str, list[float]]
Counts = dict[str, list[float]]  # calls of the actor for each request


def run(bench: Bench) -> Report:
    """Measure on one service."""
    with bench.service() as target, Connection(target.url) as client:
        symbols = all_symbols(client)
        times, calls = measure(bench, client, _blocks(symbols, bench.given is not None))
    return report(times, calls, len(symbols))


def measure(
    bench: Bench, client: Connection, blocks: dict[str, list[bytes]]
) -> tuple[Times, Counts]:
    """Return the times of all repetitions, and the actor calls of each, by block."""
    times: Times = {name: [] for name in blocks}
    calls: Counts = {name: [] for name in blocks}
    count = max(1, bench.size.requests // 3)
    for body in blocks[next(reversed(blocks))] * min(count, _WARM_UP):
        client.post(_BATCH, body)
    before = settled_calls(client, "comprehensive")
    for number in range(min(_ROUNDS, bench.size.rounds)):
        for name, bodies in blocks.items():
            bench.tell(f"round {number + 1}: {name}")
            for _ in range(count):
                times[name].append(sum(client.timed_post(_BATCH, body) for body in bodies))
            after = settled_calls(client, "comprehensive")
            calls[name].append((after - before) / count)
            before = after
    return times, calls


def all_symbols(client: Connection) -> list[str]:
    """Return the symbols that the service knows."""
    answer = orjson.loads(client.get("/api/v2/symbols?size=500"))
    return [item["symbol"] for item in answer["items"]]


def _blocks(symbols: Sequence[str], tiny: bool) -> dict[str, list[bytes]]:
    """Return by name the bodies that one repetition posts."""
    sizes = [len(symbols)] if tiny else sorted({1, max(1, len(symbols) // 2), len(symbols)})
    together = {f"{n} in one request": [_body(symbols[:n])] for n in sizes}
    return together | {f"{len(symbols)}, one by one": [_body([s]) for s in symbols]}


def _body(symbols: Sequence[str]) -> bytes:
    return orjson.dumps({"symbols": list(symbols), "period": "1y"})


def settled_calls(client: Connection, method: str) -> float:
    """Return the calls of the indicator actor's `method` so far (a pattern), when all are in.

    `trend` marks the end: it is counted in the same report as the calls before it, or later.
    """
    marks = _calls(client, "trend")
    client.get("/api/v2/async/technical/analysis/AAPL")
    deadline_s = time.monotonic() + _METRICS_WITHIN_S
    while True:
        text = client.get("/metrics").decode()
        if _counted(text, "trend") > marks:
            return _counted(text, method)
        if time.monotonic() > deadline_s:
            raise RuntimeError("the metrics do not change")
        time.sleep(0.05)


def _calls(client: Connection, method: str) -> float:
    return _counted(client.get("/metrics").decode(), method)


def _counted(text: str, method: str) -> float:
    pattern = (
        rf'^finstage_actor_calls_total{{actor="indicators",method="(?:{method})",[^}}]*}} (\S+)$'
    )
    return sum(float(value) for value in re.findall(pattern, text, re.MULTILINE))


def report(times: Times, calls: Counts, symbols: int) -> Report:
    """Return the table and the claims."""
    *together, singly = times
    most = max(count for name in together for count in calls[name])
    faster = ratio(times[singly], times[together[-1]])
    low, high = ratio_interval(times[singly], times[together[-1]])
    result = Report(NAME, "Batch of indicators", _METHOD)
    result.claims = [
        Claim(
            "one actor call, whatever the number of symbols",
            f"{most:g} a request for 1 to {symbols} symbols",
            all(count == 1 for name in together for count in calls[name]),
        ),
        Claim(
            f"faster than {symbols} requests one by one",
            f"{faster:.1f} × ({low:.1f} to {high:.1f})",
            low > 1,
        ),
    ]
    rows = [_row(name, times[name], calls[name]) for name in times]
    header = ("symbols", "actor calls", "ms, median", "quartiles", "p99")
    result.tables.append(Table("Times of one client", header, rows))
    result.samples = {"milliseconds": times, "actor_calls": calls}
    return result


def _row(name: str, times: list[float], calls: list[float]) -> tuple[str, ...]:
    found = Summary.of(times)
    quartiles = f"{found.lower_quartile:.2f} to {found.upper_quartile:.2f}"
    shown = sorted({f"{count:g}" for count in calls})
    return name, " or ".join(shown), f"{found.median:.2f}", quartiles, f"{found.p99:.2f}"
