"""What watching costs: everything on against everything off, in pairs; and `GET /metrics`."""

from __future__ import annotations

import time
from typing import Any

import httpx
import numpy as np

from actors.hub.client import HubClient
from benchmarks.crowd import Crowd, crowded
from benchmarks.driver import joined
from benchmarks.fanout import last_prices, of_one, played, socket_url
from benchmarks.hot_get import answer_bytes, bare_uvicorn
from benchmarks.load import press
from benchmarks.peers.route import PATH
from benchmarks.report import Claim, Report, Table
from benchmarks.service import Bench, Target
from benchmarks.stats import Summary, ratio

NAME = "operations"
LEAST_RATE, MOST_P99, TIMES_BARE = 0.97, 1.1, 1.1
METRICS_MS, METRICS_BYTES = 50.0, 2**20
_TEST = "cost-of-a-test"
_SETTLE_S = 5.0  # a decision is everywhere after four
_SOCKETS = 100

_METHOD = """One service. In turns the monitor looks (readings every ten seconds, alerts,
judgements, tuning, the edge timed) and does not (`PUT /monitoring/watch`), ten pairs, the order
within a pair alternating; each turn is a hot GET under `wrk -t1 -c32` and then 100 sockets on one
symbol each of seven, each ticking ten times a second through the hub. The ratio of each pair, the
median over pairs, and its 95 % interval by bootstrap over pairs. After that the same load with an
A/B test running on the route, and a bare uvicorn + FastAPI beside both. Load and service share
the cores."""


def run(bench: Bench) -> Report:
    """Measure."""
    size = bench.size
    pairs = 10 if size.rounds > 1 else 1
    with bench.service() as target, _Operator(target) as operator:
        length = answer_bytes(target)
        turns: dict[str, list[dict[str, float]]] = {"on": [], "off": []}
        for number in range(pairs):
            for on in (True, False) if number % 2 else (False, True):
                name = "on" if on else "off"
                bench.tell(f"pair {number + 1} of {pairs}: {name}")
                operator.watch(on)
                turns[name].append(_turn(target, bench))
        operator.watch(True)
        with bare_uvicorn(length) as bare_url:
            bare, beside, tested = [], [], []
            for number in range(size.rounds):
                bench.tell(f"round {number + 1}: bare uvicorn, everything on, an A/B test too")
                bare.append(press(bare_url, size.seconds).per_s)
                beside.append(press(target.url + PATH, size.seconds).per_s)
                with operator.test():
                    tested.append(press(target.url + PATH, size.seconds).per_s)
        metrics = operator.metrics(20 if size.rounds > 1 else 3)
    return _report(turns, bare, beside, tested, metrics)


class _Operator:
    """Who switches."""

    def __init__(self, target: Target) -> None:
        self._http = httpx.Client(base_url=target.url, timeout=30, trust_env=False)

    def __enter__(self) -> _Operator:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def watch(self, on: bool) -> None:
        """Let the monitor look, or not, and wait until it is so everywhere."""
        self._http.put("/monitoring/watch", json={"on": on}).raise_for_status()
        time.sleep(_SETTLE_S)

    def test(self) -> _Test:
        """Return an A/B test to run for a while."""
        return _Test(self._http)

    def metrics(self, times: int) -> dict[str, list[float]]:
        """Ask for `/metrics`; return milliseconds and bytes."""
        found: dict[str, list[float]] = {"ms": [], "bytes": []}
        for _ in range(times):
            began_s = time.perf_counter()
            body = self._http.get("/metrics").content
            found["ms"].append(1_000 * (time.perf_counter() - began_s))
            found["bytes"].append(float(len(body)))
            time.sleep(0.2)  # so that ten reads see several of the two-second sums
        return found


class _Test:
    """A random split in two, which switches nothing."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def __enter__(self) -> None:
        variants = [
            {"id": name, "name": name, "traffic_percentage": 50, "is_control": name == "a"}
            for name in "ab"
        ]
        body: dict[str, Any] = {
            "id": _TEST, "name": _TEST, "traffic_split_method": "random", "variants": variants,
            "target_endpoints": ["/api/v2/technical-analysis/indicators/{symbol}"],
        }  # fmt: skip
        self._http.post("/api/v2/ab-tests", json=body).raise_for_status()
        self._http.post(f"/api/v2/ab-tests/{_TEST}/start").raise_for_status()
        time.sleep(_SETTLE_S)

    def __exit__(self, *_: object) -> None:
        self._http.post(f"/api/v2/ab-tests/{_TEST}/stop").raise_for_status()
        self._http.delete(f"/api/v2/ab-tests/{_TEST}").raise_for_status()
        time.sleep(_SETTLE_S)


def _turn(target: Target, bench: Bench) -> dict[str, float]:
    rate = press(target.url + PATH, bench.size.seconds).per_s
    latencies = crowded(_ticked(target, bench.size.seconds))
    return {"per_s": rate, "p99_ms": float(np.percentile(latencies, 99))}


async def _ticked(target: Target, seconds: float) -> list[float]:
    with joined(target.settings.data_dir):
        bodies = await last_prices(target)
        crowd = Crowd(socket_url(target))
        await crowd.connect(_SOCKETS)
        await crowd.subscribe(lambda number: of_one(bodies, number))
        found = await played(HubClient(5.0), crowd, bodies, seconds)
        await crowd.close()
    return found


def paired(above: list[float], below: list[float], seed: int = 0) -> tuple[float, float, float]:
    """Return the median of the pairs' ratios, and its 95 % bootstrap interval."""
    ratios = np.asarray(above) / np.asarray(below)
    rng = np.random.default_rng(seed)
    medians = np.median(rng.choice(ratios, (5_000, len(ratios))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(np.median(ratios)), float(low), float(high)


def _report(
    turns: dict[str, list[dict[str, float]]],
    bare: list[float],
    beside: list[float],
    tested: list[float],
    metrics: dict[str, list[float]],
) -> Report:
    result = Report(NAME, "What watching costs", _METHOD)
    rate, p99 = (
        paired([t[what] for t in turns["on"]], [t[what] for t in turns["off"]])
        for what in ("per_s", "p99_ms")
    )
    times = ratio(beside, bare)
    ms, size = Summary.of(metrics["ms"]), Summary.of(metrics["bytes"])
    result.claims += [
        Claim(f"requests on/off at least {LEAST_RATE:g}", _shown(rate), rate[0] >= LEAST_RATE),
        Claim(f"tick to frame p99 on/off at most {MOST_P99:g}", _shown(p99), p99[0] <= MOST_P99),
        Claim(
            f"hot GET with everything on at least {TIMES_BARE:g} × a bare uvicorn + FastAPI",
            f"{times:.2f} × (with an A/B test on the route {ratio(tested, bare):.2f} ×)",
            times >= TIMES_BARE,
        ),
        Claim(f"`/metrics` under {METRICS_MS:g} ms", f"{ms.shown(1)} ms", ms.median < METRICS_MS),
        Claim("`/metrics` under 1 MiB", f"{size.median:,.0f} bytes", size.median < METRICS_BYTES),
    ]
    rows = [
        (
            name,
            Summary.of([turn["per_s"] for turn in of]).shown(0),
            Summary.of([turn["p99_ms"] for turn in of]).shown(1),
        )
        for name, of in turns.items()
    ]
    header = ("monitor", "hot GET, requests/s", "tick to frame p99, ms")
    result.tables.append(Table("In pairs", header, rows))
    result.samples = turns | {
        "bare_per_s": bare, "on_per_s": beside, "with_test_per_s": tested, "metrics": metrics,
    }  # fmt: skip
    return result


def _shown(found: tuple[float, float, float]) -> str:
    return f"{found[0]:.3f} ({found[1]:.3f} to {found[2]:.3f})"
