"""What a socket and a subscription cost in memory, and how soon very many are there again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.crowd import Crowd, Member, crowded
from benchmarks.fanout import socket_url, stream_pid
from benchmarks.report import Claim, Report, Table
from benchmarks.service import Bench, Target, free_port, peer

NAME = "sockets"
_FEW, _MANY, _ALL = 500, 3_000, 7_000
_SYMBOLS = 100
_OF_BARE, _SUBSCRIPTIONS_MB, _CONNECT_S, _BACK_S = 1.3, 64.0, 10.0, 15.0
_SETTINGS = {
    "FINSTAGE_MAX_SOCKETS": "8000",
    "FINSTAGE_SOURCE": "simulated",
    "FINSTAGE_SIMULATED_SYMBOLS": str(_SYMBOLS),
    "FINSTAGE_SIMULATED_TICKS_PER_S": "0.1",
}

_METHOD = f"""Proportional set size of the process that holds the sockets, before and after
{_MANY - _FEW:,} more of them are opened beside {_FEW}, all idle; the same of a bare uvicorn with a
Starlette route that accepts and reads, deflate off. Subscriptions: 1,000 sockets with {_SYMBOLS}
symbols each. Connecting: {_ALL:,} sockets, fifty at a time, until the last one's welcome; then the
stream's process is killed with SIGKILL, and each client connects again, waiting up to a second at
random after a failure, until the last subscription was answered with `recovered: true`."""


def run(bench: Bench) -> Report:
    """Measure a service of its own, or what was given in tiny sizes."""
    is_tiny = bench.given is not None
    few, many, everyone = (5, 20, 30) if is_tiny else (_FEW, _MANY, _ALL)
    with bench.service(**_SETTINGS) as target:
        found = crowded(_ours(bench, target, (few, many, everyone), is_tiny))
    bench.tell("a bare uvicorn")
    port = free_port()
    with peer("bare_sockets", str(port)) as child:
        url = f"ws://127.0.0.1:{port}/realtime"
        found["bare_kib"] = crowded(_idle_kib(url, child.pid, few, many))
    return _report(found, many - few, everyone)


async def _idle_kib(url: str, pid: int, few: int, many: int) -> float:
    crowd = Crowd(url)
    await crowd.connect(few)
    await asyncio.sleep(1.0)
    before = pss_kib(pid)
    await crowd.connect(many - few)
    await asyncio.sleep(1.0)
    after = pss_kib(pid)
    await crowd.close()
    return (after - before) / (many - few)


async def _ours(
    bench: Bench, target: Target, sizes: tuple[int, int, int], is_tiny: bool
) -> dict[str, Any]:
    few, many, everyone = sizes
    url, pid = socket_url(target), stream_pid(target)
    bench.tell("idle sockets")
    found: dict[str, Any] = {"idle_kib": await _idle_kib(url, pid, few, many)}
    bench.tell("subscriptions")
    symbols = await _symbols(url)
    found["subscriptions_mb"] = await _subscriptions_mb(
        url, pid, symbols, 20 if is_tiny else 1_000
    )
    bench.tell("connecting all")
    crowd = Crowd(url)
    found["connect_s"] = await crowd.connect(everyone)
    answers = await crowd.subscribe(lambda _: _request(symbols[0]))
    for member, answer in zip(crowd.members, answers, strict=True):
        member.place = {"epoch": answer["epoch"], "offset": answer["offset"]}
    if not is_tiny:  # the service that is given is others' too
        bench.tell("killing the replica")
        found["back_s"], found["recovered"] = await _killed(target, url, crowd, symbols[0])
    await crowd.close()
    return found


async def _symbols(url: str) -> list[str]:
    async with httpx.AsyncClient(trust_env=False) as client:
        base = url.replace("ws", "http", 1).removesuffix("/ws/realtime")
        answer = await client.get(f"{base}/api/v2/symbols?size={_SYMBOLS}")
    return [item["symbol"] for item in answer.json()["items"]]


async def _subscriptions_mb(url: str, pid: int, symbols: list[str], sockets: int) -> float:
    crowd = Crowd(url)
    await crowd.connect(sockets)
    before = pss_kib(pid)
    await crowd.subscribe(lambda _: _request(*symbols))
    after = pss_kib(pid)
    await crowd.close()
    return (after - before) / 1024 * (_SYMBOLS * 1_000) / (len(symbols) * sockets)


async def _killed(target: Target, url: str, crowd: Crowd, symbol: str) -> tuple[float, int]:
    """Return the seconds until all are back, and how many missed nothing."""
    places = [member.place for member in crowd.members]
    os.kill(stream_pid(target), signal.SIGKILL)
    began_s = time.monotonic()
    again = Crowd(url)
    gate = asyncio.Semaphore(100)
    answers = await asyncio.gather(*(_back(again, place, gate, symbol) for place in places))
    took_s = time.monotonic() - began_s
    await again.close()
    return took_s, sum(answer["recovered"] for answer in answers)


async def _back(
    crowd: Crowd, place: dict[str, Any], gate: asyncio.Semaphore, symbol: str
) -> dict[str, Any]:
    pause_s = 0.2
    while True:
        with contextlib.suppress(Exception):  # refused, or cut in between: it is tried again
            async with gate, asyncio.timeout(20):
                member: Member = await crowd.one()
                await member.welcomed.wait()
                answer = await member.ask(_request(symbol) | {"recover": place})
            crowd.members.append(member)
            return answer
        await asyncio.sleep(pause_s)
        pause_s = min(1.0, 2 * pause_s)


def _request(*symbols: str) -> dict[str, Any]:
    return {"action": "subscribe", "type": "prices", "symbols": symbols}


def pss_kib(pid: int) -> int:
    """Return the proportional set size of a process."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    match = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) if match else 0


def _report(found: dict[str, Any], idle: int, everyone: int) -> Report:
    of_bare = found["idle_kib"] / max(found["bare_kib"], 0.1)
    claims = [
        Claim(
            f"an idle socket: at most {_OF_BARE:g} x one of a bare uvicorn",
            f"{of_bare:.2f} x ({found['idle_kib']:.1f} KiB)",
            of_bare <= _OF_BARE,
        ),
        Claim(
            f"100,000 subscriptions: at most {_SUBSCRIPTIONS_MB:g} MiB",
            f"{found['subscriptions_mb']:.1f} MiB",
            found["subscriptions_mb"] <= _SUBSCRIPTIONS_MB,
        ),
        Claim(
            f"{everyone:,} sockets connect in under {_CONNECT_S:g} s",
            f"{found['connect_s']:.1f} s",
            found["connect_s"] < _CONNECT_S,
        ),
    ]
    if "back_s" in found:
        claims.append(
            Claim(
                f"and are back with recovery {_BACK_S:g} s after kill -9 of their process",
                f"{found['back_s']:.1f} s, {found['recovered']:,} recovered",
                found["back_s"] < _BACK_S and found["recovered"] == everyone,
            )
        )
    rows = [
        ("finstage", f"{found['idle_kib']:.1f}"),
        ("bare uvicorn", f"{found['bare_kib']:.1f}"),
    ]
    table = Table(f"KiB an idle socket, over {idle:,}", ("server", "KiB"), rows)
    return Report(NAME, "Very many sockets", _METHOD, claims, [table], found)
