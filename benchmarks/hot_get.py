"""A cached GET, beside a bare uvicorn and beside the same route through Serve's own proxy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict

from benchmarks.client import Connection
from benchmarks.load import CONNECTIONS, Load, press
from benchmarks.peers.route import PATH
from benchmarks.report import Claim, Report, Table
from benchmarks.service import Bench, Target, await_answer, free_port, peer
from benchmarks.stats import Summary, ratio, ratio_interval

NAME = "hot_get"
TIMES_BARE = 1.2
TIMES_PROXY = 15.0
P99_MS = 15.0
_WARM_UP_S = 2.0

Runs = dict[str, list[Load]]

_METHOD = f"""`wrk -t1 -c{CONNECTIONS}` asks for `{PATH}`; rounds alternate between the two
that run, after a
warm-up of each that is dropped. First Finstage (defaults, replay playing, through HAProxy)
beside one bare uvicorn (uvloop, httptools, a FastAPI route returning bytes of the same size, no
access log); then, on a Ray of its own, the same FastAPI application as a deployment behind
Serve's Python proxy (`RAY_SERVE_*` unset, no token, access log off, 1,000 ongoing requests
allowed, no dashboard), beside the same bare uvicorn. All of it, wrk included, shares the
machine's cores. Medians over rounds with the least and the most; intervals are 95 %, by
bootstrap over rounds."""


def run(bench: Bench) -> Report:
    """Measure; in tiny sizes, on a service that was given, the proxy is left out."""
    with bench.service() as target:
        length = answer_bytes(target)
        with bare_uvicorn(length) as bare_url:
            urls = {"finstage": target.url + PATH, "bare uvicorn": bare_url}
            beside_ours = alternate(bench, urls)
    beside_proxy = {} if bench.given else _proxy_runs(bench, length)
    return report(beside_ours, beside_proxy, length)


def answer_bytes(target: Target) -> int:
    """Return the length of the answer, which is in memory afterwards."""
    with Connection(target.url) as client:
        return len(client.get(PATH))


@contextmanager
def bare_uvicorn(length: int) -> Iterator[str]:
    """Run the bare peer; give the URL of its route."""
    port = free_port()
    with peer("bare_uvicorn", str(port), str(length)):
        url = f"http://127.0.0.1:{port}{PATH}"
        await_answer(url)
        yield url


def alternate(bench: Bench, urls: Mapping[str, str]) -> Runs:
    """Press each URL in turn, as often as there are rounds."""
    size = bench.size
    runs: Runs = {name: [] for name in urls}
    for url in urls.values() if size.rounds > 1 else ():
        press(url, _WARM_UP_S)
    for number in range(size.rounds):
        for name, url in urls.items():
            bench.tell(f"round {number + 1} of {size.rounds}: {name}")
            runs[name].append(press(url, size.seconds))
    return runs


def _proxy_runs(bench: Bench, length: int) -> Runs:
    bench.tell("starting Serve's own proxy")
    port = free_port()
    with bare_uvicorn(length) as bare_url, serve_proxy(port, length):
        url = f"http://127.0.0.1:{port}{PATH}"
        await_answer(url)
        return alternate(bench, {"serve proxy": url, "bare uvicorn": bare_url})


def serve_proxy(port: int, length: int) -> AbstractContextManager[object]:
    """Run the peer behind Serve's proxy, without Ray's token: it would be written to $HOME."""
    return peer("serve_proxy", str(port), str(length), RAY_AUTH_MODE="disabled")


def report(beside_ours: Runs, beside_proxy: Runs, length: int) -> Report:
    """Return tables and claims."""
    result = Report(NAME, "Hot GET, from memory", _METHOD)
    ours, bare = _rates(beside_ours["finstage"]), _rates(beside_ours["bare uvicorn"])
    result.claims.append(_claim("a bare uvicorn", ours, bare, TIMES_BARE))
    if beside_proxy:
        proxy = _rates(beside_proxy["serve proxy"])
        result.claims.append(_claim("Serve's Python proxy", ours, proxy, TIMES_PROXY))
    p99 = Summary.of([load.p99_ms for load in beside_ours["finstage"]])
    text = f"p99 under {P99_MS:g} ms at {CONNECTIONS} connections"
    result.claims.append(Claim(text, f"{p99.shown()} ms", p99.median < P99_MS))
    groups = {"together": beside_ours, "together, after that": beside_proxy}
    for title, runs in groups.items():
        if runs:
            result.tables.append(_table(title, runs))
    result.samples = {
        "answer_bytes": length,
        "beside_finstage": {name: [asdict(x) for x in runs] for name, runs in beside_ours.items()},
        "beside_proxy": {name: [asdict(x) for x in runs] for name, runs in beside_proxy.items()},
    }
    return result


def _claim(other: str, ours: list[float], theirs: list[float], least: float) -> Claim:
    times, (low, high) = ratio(ours, theirs), ratio_interval(ours, theirs)
    text = f"at least {least:g} × {other}"
    return Claim(text, f"{times:.2f} × ({low:.2f} to {high:.2f})", times >= least)


def _rates(runs: list[Load]) -> list[float]:
    return [load.per_s for load in runs]


def _table(title: str, runs: Runs) -> Table:
    header = ("", "requests/s", "p50, ms", "p99, ms", "worst, ms")
    rows = [
        (
            name,
            Summary.of(_rates(loads)).shown(0),
            Summary.of([load.p50_ms for load in loads]).shown(),
            Summary.of([load.p99_ms for load in loads]).shown(),
            f"{max(load.max_ms for load in loads):.1f}",
        )
        for name, loads in runs.items()
    ]
    return Table(title.capitalize(), header, rows)
