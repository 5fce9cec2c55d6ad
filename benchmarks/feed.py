"""The FeedActor: how many ticks a core carries, and how soon a tick is at the hub."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime
from pathlib import Path

import orjson
import psutil

from benchmarks.client import Connection
from benchmarks.driver import joined
from benchmarks.report import Claim, Report, Table
from benchmarks.service import Bench, peer
from benchmarks.stats import Summary, ratio, ratio_interval
from infra.messages import PRICES, Batch, Snapshot
from tests.fakes.yahoo import FakeYahoo, serving_in_thread
from tests.fakes.yahoo_data import Market

NAME = "feed"
_SYMBOLS, _TICKS_PER_S = 1_000, 50.0
_WANTED_PER_S = 50_000
_LEAST_OF_PLAIN = 0.5
_LIVE_SYMBOLS, _LIVE_TICKS_PER_S = 500, 5

_METHOD = """Load: the whole service on a simulated market of 1,000 symbols at 50 ticks a second
each, so that everything that takes ticks (hub, indicators, both replicas) competes for the two
cores. The feed's ticks are those that it counts, its CPU time the kernel's. The peer is a plain
asyncio script that does the same work without Ray, alone on the machine. Compared is what a
second of CPU carries. Latency: the service on a fake Yahoo, which sends 500 symbols 5 ticks a
second; a Ray driver follows the hub as a replica does, so the time ends one call after the hub
has the batch."""


def run(bench: Bench) -> Report:
    """Measure two services, one after the other, or what was given."""
    is_tiny = bench.given is not None
    rounds, seconds = (1, 1.0) if is_tiny else (5, 6.0)
    market = {
        "FINSTAGE_SOURCE": "simulated",
        "FINSTAGE_SIMULATED_SYMBOLS": str(_SYMBOLS),
        "FINSTAGE_SIMULATED_TICKS_PER_S": str(_TICKS_PER_S),
        "FINSTAGE_RAY_DASHBOARD": "false",
    }
    carried: list[tuple[float, float]] = []
    with bench.service(**market) as target, Connection(target.url) as client:
        for number in range(rounds):
            bench.tell(f"feed, round {number + 1}")
            carried.append(_carried(client, seconds))
    plain: list[float] = []
    for number in range(rounds):
        bench.tell(f"plain script, round {number + 1}")
        plain.append(_plain(20 if is_tiny else _SYMBOLS, seconds))
    latencies_ms = tick_latencies_ms(bench, 1 if is_tiny else 10)
    return _report(carried, plain, latencies_ms)


def _carried(client: Connection, seconds: float) -> tuple[float, float]:
    """Return the feed's ticks a second, and those that a second of its CPU carries.

    Counts come in reports: all is read when one has just come.
    """
    feed = _feed_process()
    before = _reported(client, _ticks(client))
    cpu_s, started_s = _cpu_s(feed), time.monotonic()
    ticks = before
    while time.monotonic() - started_s < seconds:
        ticks = _reported(client, ticks)
    took_s, took_cpu_s = time.monotonic() - started_s, _cpu_s(feed) - cpu_s
    return (ticks - before) / took_s, (ticks - before) / took_cpu_s


def _reported(client: Connection, known: float) -> float:
    """Wait for another count than the known one, and return it."""
    while (ticks := _ticks(client)) == known:
        time.sleep(0.02)
    return ticks


def _ticks(client: Connection) -> float:
    text = client.get("/metrics").decode()
    found = re.findall(r"^finstage_feed_ticks_total\S* (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


def _feed_process() -> psutil.Process:
    for process in psutil.process_iter(["cmdline"]):
        if (process.info["cmdline"] or [""])[0].startswith("ray::FeedActor"):
            return process
    raise RuntimeError("no FeedActor runs")


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _plain(symbols: int, seconds: float) -> float:
    arguments = (str(symbols), str(_TICKS_PER_S), str(seconds))
    with peer("plain_feed", *arguments) as child:
        assert child.stdout is not None
        told = orjson.loads(child.stdout.readline())
    return float(told["ticks"] / told["cpu_s"])


# -- latency -----------------------------------------------------------------------------------


def tick_latencies_ms(bench: Bench, seconds: int, **settings: str) -> list[float]:
    """Return the times from the fake streamer to a follower of the hub, of a new service."""
    if bench.given is not None:  # it has no live source: only that following works is shown
        return asyncio.run(_followed(bench.given.settings.data_dir, None, [], seconds))
    symbols = [f"S{number:03}-USD" for number in range(_LIVE_SYMBOLS)]  # never closed
    market = Market.until(datetime.now(UTC).date())
    for symbol in symbols:
        market.set_bars(symbol, "1d", market.books["AAPL"].record.bars)
    with serving_in_thread(market=market, now_s=time.time) as fake:
        live = {
            "FINSTAGE_SOURCE": "yahoo",
            "FINSTAGE_YAHOO_URL": fake.url,
            "FINSTAGE_YAHOO_STREAM_URL": fake.stream_url,
            "FINSTAGE_YAHOO_REQUESTS_PER_S": "1000",
            "FINSTAGE_SYMBOLS": ",".join(symbols),
            "FINSTAGE_RAY_DASHBOARD": "false",
        }
        with bench.service(**(live | settings)) as target:
            bench.tell("ticks to the hub")
            return asyncio.run(_followed(target.settings.data_dir, fake, symbols, seconds))


async def _followed(
    data_dir: Path, fake: FakeYahoo | None, symbols: list[str], seconds: int
) -> list[float]:
    with joined(data_dir):
        from actors.hub.client import HubClient, HubReader

        follower = _Follower()
        reading = asyncio.ensure_future(HubReader(HubClient(), follower).run())
        if fake is not None:
            while not fake.subscriptions.issuperset(symbols):  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.05)
            await asyncio.sleep(2.0)  # the first poll, without which a tick says too little
            assert fake.loop is not None
            sending = _send(fake, symbols, seconds, follower.sent_s)
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(sending, fake.loop))
        await asyncio.sleep(1.0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    return follower.latencies_ms


class _Follower:
    """Times what it knows the sending of: the volume is the number of the tick."""

    def __init__(self) -> None:
        self.sent_s: dict[int, float] = {}
        self.latencies_ms: list[float] = []

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Nothing: what it holds was sent before."""

    def on_batch(self, batch: Batch) -> None:
        """Note when each tick came."""
        now_s = time.perf_counter()
        for message in batch.messages:
            if message.topic.startswith(PRICES):
                sent_s = self.sent_s.get(orjson.loads(message.payload)["volume"])
                if sent_s is not None:
                    self.latencies_ms.append((now_s - sent_s) * 1_000)


async def _send(
    fake: FakeYahoo, symbols: list[str], seconds: int, sent_s: dict[int, float]
) -> None:
    number, started_s = 10**9, time.perf_counter()
    per_s = _LIVE_TICKS_PER_S * len(symbols)
    for turn in range(seconds * per_s):
        due_s = started_s + turn / per_s
        if (wait_s := due_s - time.perf_counter()) > 0.001:
            await asyncio.sleep(wait_s)
        number += 1
        sent_s[number] = time.perf_counter()
        at_ms = int(time.time() * 1_000)
        await fake.send_tick(symbols[turn % len(symbols)], 100 + turn % 7, at_ms, number)


def _report(
    carried: list[tuple[float, float]], plain: list[float], latencies_ms: list[float]
) -> Report:
    per_s, per_cpu_s = [list(column) for column in zip(*carried, strict=True)]
    found = Summary.of(latencies_ms or [0.0])
    part, (low, high) = ratio(per_cpu_s, plain), ratio_interval(per_cpu_s, plain)
    least = Summary.of(per_cpu_s).median
    report = Report(NAME, "Ticks through the feed", _METHOD)
    report.claims = [
        Claim(
            f"{_WANTED_PER_S:,} ticks a second on one core",
            f"{Summary.of(per_s).median:,.0f} a second came; a core carries {least:,.0f}",
            least >= _WANTED_PER_S,
        ),
        Claim(
            f"at least {_LEAST_OF_PLAIN} × a plain asyncio script",
            f"{part:.2f} × ({low:.2f} to {high:.2f})",
            part >= _LEAST_OF_PLAIN,
        ),
        Claim(
            f"streamer to hub, {_LIVE_SYMBOLS} symbols at {_LIVE_TICKS_PER_S}/s: p99 under 10 ms",
            f"{found.p99:.1f} ms, median {found.median:.1f} ms",
            found.p99 < 10,
        ),
    ]
    rows = [
        ("feed, ticks a second of CPU", Summary.of(per_cpu_s).shown(0)),
        ("plain script, ticks a second of CPU", Summary.of(plain).shown(0)),
        ("ticks a second that came", Summary.of(per_s).shown(0)),
        ("streamer to hub, ms", found.shown(2)),
    ]
    report.tables.append(Table("What was measured", ("what", "median (range)"), rows))
    report.samples = {
        "ticks_per_cpu_s": {"feed": per_cpu_s, "plain": plain},
        "ticks_per_s": {"feed": per_s},
        "milliseconds": {"streamer_to_hub": latencies_ms},
    }
    return report
