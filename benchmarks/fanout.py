"""One message to very many sockets, and many messages to many, beside picows and usual Serve."""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil

from actors.hub.client import HubClient
from benchmarks.crowd import Crowd, crowded, stamped
from benchmarks.driver import joined
from benchmarks.report import Claim, Report, Table
from benchmarks.service import Bench, Target, free_port, own_settings, peer
from benchmarks.stats import Summary
from infra.messages import PRICES, Message
from serve.cli.head import ingress_environment
from serve.cli.ports import choose_ports

NAME = "fanout"
SIZES = (1_000, 3_500, 7_000)
_OF_PICOWS = (2.2, 2.2, 3.0)
_OF_QUEUES = (0.6, 0.2, 0.2)
_ROUNDS, _WARM_UP, _PAUSE_S, _LATE_S = 20, 3, 0.3, 5.0
_SYMBOLS, _PER_S, _CROWD = 50, 10, 1_000
_FRAME_MS, _AGE_MS, _OF_UNFROZEN = 20.0, 200.0, 1.2
_QUIET = {"FINSTAGE_MAX_SOCKETS": "8000", "FINSTAGE_MAX_SOCKETS_OF_KEY": "8000"}
# The replay in real time, so that its own ticks are few.
_REPLAY = _QUIET | {"FINSTAGE_REPLAY_SESSION_S": "23400"}
_MARKET = _QUIET | {
    "FINSTAGE_SOURCE": "simulated",
    "FINSTAGE_SIMULATED_SYMBOLS": str(_SYMBOLS),
    "FINSTAGE_SIMULATED_TICKS_PER_S": "0.5",
}

_METHOD = f"""Sockets of one picows client process (uvloop, collector off), all on loopback; a
stamp of the monotonic clock is the last member of each message, put there right before it is
published.

Broadcast: every socket takes one symbol, whose price is published in the hub by this process
({_ROUNDS} rounds after {_WARM_UP} of warm-up, each when the last frame of the one before came).
Peers in the same run: a picows server that has neither Ray nor HAProxy, stamped right before its
loop of sends; a Starlette application with a queue and a task for each socket on Ray Serve behind
HAProxy, with the same variables of Serve as ours, stamped right before it fills the queues.

Ticks: {_CROWD:,} sockets, {_SYMBOLS} symbols of the simulated market, whose prices this process
publishes {_PER_S} times a second each, in batches of 10 ms. Each socket on one symbol; the same
with a tenth of the sockets not reading; every socket on all symbols in mode `latest` (twenty of
them timed). p99 and most are over all frames of all sockets."""

Broadcasts = dict[str, dict[int, list[float]]]


def run(bench: Bench) -> Report:
    """Measure; in tiny sizes without the peer that needs a Ray of its own."""
    is_tiny = bench.given is not None
    sizes = (20,) if is_tiny else SIZES
    broadcasts: Broadcasts = {"finstage": {}, "picows": {}, "queues on Serve": {}}
    with bench.service(**_REPLAY) as target:
        body = price_of(target, "AAPL")
        broadcasts["finstage"] = crowded(_ours(bench, target, body, sizes))
    bench.tell("picows")
    broadcasts["picows"] = _picows(bench, body, sizes)
    if not is_tiny:
        bench.tell("queues on Serve")
        broadcasts["queues on Serve"] = _queues(bench, body, sizes)
    with bench.service(**_MARKET) as target:
        ticks = crowded(_ticks(bench, target, is_tiny))
    return _report(broadcasts, ticks)


def price_of(target: Target, symbol: str) -> dict[str, Any]:
    """Return the last price of a symbol, as it is told."""
    url = f"{target.url}/ws/sse?symbols={symbol}"
    with httpx.Client(timeout=30, trust_env=False) as client, client.stream("GET", url) as answer:
        lines = answer.iter_lines()
        data = next(line for line in lines if line.startswith("data: "))
    body: dict[str, Any] = orjson.loads(data.removeprefix("data: "))["snapshot"][0]
    return {name: value for name, value in body.items() if name not in ("epoch", "offset")}


# -- broadcast ---------------------------------------------------------------------------------


async def _rounds(crowd: Crowd, send: Callable[[], Awaitable[object]], rounds: int) -> list[float]:
    """Return the latencies of rounds, each of which begins when the one before has come."""
    found: list[float] = []
    for number in range(rounds + _WARM_UP):
        crowd.begin(len(crowd.members))
        await send()
        await crowd.came(_LATE_S)
        if number >= _WARM_UP:
            found += crowd.latencies_ms
        await asyncio.sleep(_PAUSE_S)
    return found


async def _ours(
    bench: Bench, target: Target, body: dict[str, Any], sizes: tuple[int, ...]
) -> dict[int, list[float]]:
    found = {}
    with joined(target.settings.data_dir):
        hub = HubClient(5.0)

        async def publish() -> None:
            await hub.publish([Message(PRICES + body["symbol"], stamped(body))])

        await hub.ping()
        for size in sizes:
            bench.tell(f"broadcast to {size:,}")
            crowd = Crowd(socket_url(target))
            await crowd.connect(size)
            symbols = [body["symbol"]]
            request = {"action": "subscribe", "type": "prices", "symbols": symbols}
            # mypy infers no type for a lambda with a default, which binds this round's request
            await crowd.subscribe(lambda _, request=request: request)  # type: ignore[misc]
            found[size] = await _rounds(crowd, publish, rounds_of(bench))
            await crowd.close()
    return found


def rounds_of(bench: Bench) -> int:
    """Return how many rounds are measured."""
    return _ROUNDS if bench.given is None else 2


def socket_url(target: Target) -> str:
    """Return the address of the stream."""
    return target.url.replace("http", "ws", 1) + "/ws/realtime"


def _picows(bench: Bench, body: dict[str, Any], sizes: tuple[int, ...]) -> dict[int, list[float]]:
    port, control_port = free_port(), free_port()

    async def measured() -> dict[int, list[float]]:
        found = {}
        _, control = await asyncio.open_connection("127.0.0.1", control_port)

        async def send() -> None:
            control.write(b"x")

        for size in sizes:
            crowd = Crowd(f"ws://127.0.0.1:{port}/")
            await crowd.connect(size)
            found[size] = await _rounds(crowd, send, rounds_of(bench))
            await crowd.close()
        control.close()
        return found

    with peer("picows_fanout", str(port), str(control_port), orjson.dumps(body).decode()):
        return crowded(measured())


def _queues(bench: Bench, body: dict[str, Any], sizes: tuple[int, ...]) -> dict[int, list[float]]:
    port = free_port()
    settings = own_settings(Path(tempfile.gettempdir()), port)
    variables = ingress_environment(settings, choose_ports(settings))
    variables |= {"RAY_AUTH_MODE": "disabled"}
    del variables["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"], variables["RAY_AUTH_TOKEN_PATH"]

    async def measured() -> dict[int, list[float]]:
        found = {}
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:

            async def send() -> None:
                await client.post(f"http://127.0.0.1:{port}/send")

            for size in sizes:
                crowd = Crowd(f"ws://127.0.0.1:{port}/realtime")
                await crowd.connect(size)
                found[size] = await _rounds(crowd, send, rounds_of(bench))
                await crowd.close()
        return found

    with peer("queue_app", str(port), orjson.dumps(body).decode(), **variables):
        time.sleep(5.0)  # HAProxy reloads once or twice after the first answer
        return crowded(measured())


# -- ticks -------------------------------------------------------------------------------------


async def _ticks(bench: Bench, target: Target, is_tiny: bool) -> dict[str, Any]:
    size, seconds = (20, 1.0) if is_tiny else (_CROWD, 20.0)
    found: dict[str, Any] = {}
    with joined(target.settings.data_dir):
        hub = HubClient(5.0)
        bodies = await last_prices(target)
        crowd = Crowd(socket_url(target))
        bench.tell("ticks: each socket on one symbol")
        await crowd.connect(size)
        await crowd.subscribe(lambda number: of_one(bodies, number))
        found["one"] = await played(hub, crowd, bodies, seconds)
        bench.tell("ticks: a tenth of the sockets frozen")
        for member in crowd.members[::10]:
            member.transport.underlying_transport.pause_reading()
        found["frozen"] = await played(hub, crowd, bodies, seconds)
        for member in crowd.members[::10]:
            member.transport.underlying_transport.resume_reading()
        await crowd.close()
        bench.tell("ticks: every socket on all symbols")
        everyone = Crowd(socket_url(target))
        await everyone.connect(20)
        await everyone.connect(size - 20, is_timed=False)
        await everyone.subscribe(lambda _: _of_all(bodies))
        memory = asyncio.create_task(_watched(target, seconds))
        found["all"] = await played(hub, everyone, bodies, seconds)
        found["memory_mb"] = await memory
        found["frames_per_s"] = everyone.frames / seconds
        await everyone.close()
    return found


async def last_prices(target: Target) -> list[dict[str, Any]]:
    crowd = Crowd(socket_url(target))
    await crowd.connect(1)
    (answer,) = await crowd.subscribe(
        lambda _: {"action": "subscribe", "type": "prices", "symbols": ["*"]}
    )
    await crowd.close()
    prices = [price for price in answer["snapshot"]][:_SYMBOLS]
    return [{k: v for k, v in p.items() if k not in ("epoch", "offset")} for p in prices]


def of_one(bodies: list[dict[str, Any]], number: int) -> dict[str, Any]:
    symbol = bodies[number % len(bodies)]["symbol"]
    return {"action": "subscribe", "type": "prices", "symbols": [symbol]}


def _of_all(bodies: list[dict[str, Any]]) -> dict[str, Any]:
    symbols = [body["symbol"] for body in bodies]
    return {"action": "subscribe", "type": "prices", "symbols": symbols, "mode": "latest"}


async def played(
    hub: HubClient, crowd: Crowd, bodies: list[dict[str, Any]], seconds: float
) -> list[float]:
    """Publish every symbol's price ten times a second for a while; return what came."""
    turn = itertools.cycle(bodies)
    a_batch = max(1, round(len(bodies) * _PER_S * 0.01))
    began_s = time.monotonic()
    warm_s, number = seconds / 5, 0
    while (at_s := time.monotonic() - began_s) < seconds + warm_s:
        if number and at_s < number * 0.01:
            await asyncio.sleep(number * 0.01 - at_s)
        number += 1
        if warm_s and at_s > warm_s:
            crowd.begin()
            warm_s, began_s, number = 0.0, time.monotonic(), 1
        batch = [next(turn) for _ in range(a_batch)]
        await hub.publish([Message(PRICES + b["symbol"], stamped(b)) for b in batch])
    await asyncio.sleep(0.3)
    return list(crowd.latencies_ms)  # to which what is played next adds


async def _watched(target: Target, seconds: float) -> list[float]:
    """Return the resident megabytes of the stream replica, once a second."""
    found = []
    process = psutil.Process(await asyncio.to_thread(stream_pid, target))
    for _ in range(max(2, int(seconds * 1.2))):
        found.append(process.memory_info().rss / 2**20)
        await asyncio.sleep(1.0)
    return found


def stream_pid(target: Target) -> int:
    """Return the process that holds the sockets."""
    found = [
        process.pid
        for process in psutil.process_iter(["cmdline", "environ"])
        if "ServeReplica" in " ".join(process.info["cmdline"] or ())
        and "Stream" in " ".join(process.info["cmdline"] or ())
    ]
    return found[-1] if found else os.getpid()


# -- the page ----------------------------------------------------------------------------------


def _report(broadcasts: Broadcasts, ticks: dict[str, Any]) -> Report:
    claims, rows = [], []
    for number, size in enumerate(broadcasts["finstage"]):
        p99 = {name: Summary.of(by[size]).p99 for name, by in broadcasts.items() if by}
        for name, by in broadcasts.items():
            if by:
                s = Summary.of(by[size])
                rows.append((f"{size:,}", name, *_cells(s)))
        claims.append(_of_peer(size, p99, "picows", _OF_PICOWS[number]))
        if "queues on Serve" in p99:
            claims.append(_of_peer(size, p99, "queues on Serve", _OF_QUEUES[number]))
    one, frozen, all_ = (Summary.of(ticks[k] or [0.0]) for k in ("one", "frozen", "all"))
    slower = frozen.p99 / max(one.p99, 1e-9)
    memory = ticks["memory_mb"]
    half = len(memory) // 2
    grew = max(memory[half:]) - max(memory[: half or 1])
    claims += [
        Claim(
            f"tick to frame, p99 at most {_FRAME_MS:g} ms",
            f"{one.p99:.1f} ms",
            one.p99 <= _FRAME_MS,
        ),
        Claim(
            f"the same with a tenth frozen, at most {_OF_UNFROZEN:g} x",
            f"{slower:.2f} x",
            slower <= _OF_UNFROZEN,
        ),
        Claim(
            f"all symbols on every socket: no value older than {_AGE_MS:g} ms",
            f"p99 {all_.p99:.0f} ms, most {all_.most:.0f} ms",
            all_.most <= _AGE_MS,
        ),
        Claim(
            "and memory flat (second half of the run against the first)",
            f"{grew:+.1f} MB",
            grew <= 10.0,
        ),
    ]
    tick_rows = [
        ("one symbol a socket", *_cells(one)),
        ("a tenth of the sockets frozen", *_cells(frozen)),
        (f"all symbols, latest ({ticks['frames_per_s']:,.0f} frames/s came)", *_cells(all_)),
    ]
    header = ("median", "p99", "most", "frames")
    tables = [
        Table("Broadcast, ms", ("sockets", "server", *header), rows),
        Table("Ticks, ms", ("sockets", *header), tick_rows),
    ]
    samples = {
        "broadcast_ms": {
            name: {str(size): asdict_of(found) for size, found in by.items()}
            for name, by in broadcasts.items()
        },
        "ticks_ms": {k: asdict_of(ticks[k] or [0.0]) for k in ("one", "frozen", "all")},
        "memory_mb": memory,
    }
    return Report(NAME, "Fan-out to sockets", _METHOD, claims, tables, samples)


def asdict_of(found: list[float]) -> dict[str, float]:
    """Return the summary of samples: there are too many to keep."""
    return asdict(Summary.of(found))


def _cells(summary: Summary) -> tuple[str, ...]:
    numbers = (summary.median, summary.p99, summary.most)
    return (*(f"{value:.1f}" for value in numbers), f"{summary.count:,}")


def _of_peer(size: int, p99: dict[str, float], name: str, most: float) -> Claim:
    found = p99["finstage"] / p99[name]
    text = f"broadcast to {size:,}: p99 at most {most:g} x {name}"
    return Claim(text, f"{found:.2f} x ({p99['finstage']:.1f} ms)", found <= most)
