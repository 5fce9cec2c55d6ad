"""Background work: how many a second, how soon what is urgent runs and the cancelled ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import aiohttp
import httpx
import psutil
import ray

import finstage
from benchmarks.driver import joined
from benchmarks.machine import ROOT
from benchmarks.report import Claim, Report, Table
from benchmarks.service import Bench, Target
from benchmarks.stats import Summary, ratio, ratio_interval
from infra.errors import TaskCancelled
from tests.fakes import tasks

NAME = "tasks"
_TASKS, _ROUNDS, _WORKERS = 5_000, 5, 4
_OF_RAW, _OF_CELERY, _HTTP_PER_S, _CONNECTIONS = 0.6, 1.3, 300.0, 32
_URGENT_MS, _CANCEL_S, _QUEUE_MIB, _RESTART_S = 100.0, 1.0, 300.0, 10.0
_BEHIND, _LONG_S, _QUEUED = 10_000, 0.02, 100_000
_ENVIRONMENT = {
    "FINSTAGE_TASK_MODULES": "tests.fakes.tasks",
    "FINSTAGE_TASK_WORKERS": str(_WORKERS),
    "PYTHONPATH": str(ROOT),
    "FINSTAGE_REPLAY_SESSION_S": "23400",  # so that few ticks run beside
}

_METHOD = f"""{_TASKS:,} no-ops, submitted in one call, until the last result is here; {_WORKERS}
workers each. Ours: in the store (SQLite) before the call returns, noted as started, outcomes kept.
Raw Ray: an actor of the same service that keeps as many in flight as our queue does
({2 * _WORKERS}), results to the actor only; rounds take turns. Celery: prefork, a Redis of its own
on loopback, acks late, results kept; after our service has stopped. Over HTTP: {_CONNECTIONS}
connections, one task a request. Urgent: HIGH tasks submitted one by one behind {_BEHIND:,} LOW
ones of {1_000 * _LONG_S:g} ms, from created to started.
Cancel: a task that waits (async) or sleeps in C (plain), from the call to its end. Queued:
{_QUEUED:,} tasks that wait; memory is the proportional set size of the queue's process."""


def run(bench: Bench) -> Report:
    """Measure a service of its own, or what was given in tiny sizes."""
    is_tiny = bench.given is not None
    found: dict[str, Any] = {}
    with bench.service(**_ENVIRONMENT) as target, joined(target.settings.data_dir):
        count, rounds = (50, 1) if is_tiny else (_TASKS, _ROUNDS)
        found["ours"], found["raw"] = _throughput(bench, count, rounds)
        bench.tell("over HTTP")
        found["http_per_s"] = asyncio.run(_over_http(target, 20 if is_tiny else 3_000))
        bench.tell("urgent ones")
        behind, urgent = (50, 3) if is_tiny else (_BEHIND, 100)
        found["urgent_ms"] = _urgent(behind, urgent)
        bench.tell("cancelling")
        found["cancel_s"] = _cancelled(2 if is_tiny else 40)
        bench.tell("very many")
        found |= _queued(target, 100 if is_tiny else _QUEUED, is_tiny)
    bench.tell("Celery")
    found["celery"] = _celery(20 if is_tiny else _TASKS, 1 if is_tiny else _ROUNDS)
    return _report(found)


def _throughput(bench: Bench, count: int, rounds: int) -> tuple[list[float], list[float]]:
    """Return tasks a second of ours and of raw Ray."""
    raw = _raw_actor()
    finstage.wait_for_all(finstage.submit_many(tasks.noop.s(n) for n in range(count // 5)))
    ray.get(raw.run.remote(count // 5, 2 * _WORKERS))
    ours, bare = [], []
    for number in range(rounds):
        bench.tell(f"round {number + 1}")
        started_s = time.monotonic()
        handles = finstage.submit_many(tasks.noop.s(n) for n in range(count))
        assert finstage.wait_for_all(handles, 300) == list(range(count))
        ours.append(count / (time.monotonic() - started_s))
        bare.append(ray.get(raw.run.remote(count, 2 * _WORKERS)))
    ray.kill(raw)
    return ours, bare


def _raw_actor() -> Any:
    """Return an actor that runs no-ops as Ray tasks, so many in flight."""
    resource = "finstage_tasks"
    has_own = resource in ray.cluster_resources()
    needs = {"num_cpus": 0, "resources": {resource: 1}} if has_own else {"num_cpus": 1}

    def noop(number: int) -> int:
        return number

    run_noop = ray.remote(noop).options(**needs)

    class Raw:
        async def run(self, count: int, in_flight: int) -> float:
            gate = asyncio.Semaphore(in_flight)

            async def one(number: int) -> int:
                async with gate:
                    result: int = await run_noop.remote(number)
                    return result

            started_s = time.monotonic()
            await asyncio.gather(*(one(number) for number in range(count)))
            return count / (time.monotonic() - started_s)

    return ray.remote(Raw).options(num_cpus=0).remote()


async def _over_http(target: Target, count: int) -> float:
    """Return tasks accepted a second, each by a request of its own."""
    numbers = iter(range(count))

    async def submit(client: aiohttp.ClientSession) -> None:
        for number in numbers:
            body = {"task_name": "tests.fakes.tasks.noop", "args": [number]}
            async with client.post(f"{target.url}/api/tasks/submit", json=body) as answer:
                assert answer.status == 202, await answer.text()

    async with aiohttp.ClientSession() as client:
        started_s = time.monotonic()
        await asyncio.gather(*(submit(client) for _ in range(_CONNECTIONS)))
        return count / (time.monotonic() - started_s)


def _urgent(behind: int, urgent: int) -> list[float]:
    """Return the milliseconds from created to started of HIGH tasks behind LOW ones."""
    low = tasks.sleeps.options(priority=finstage.TaskPriority.LOW)
    high = tasks.noop.options(priority=finstage.TaskPriority.HIGH)
    waiting = finstage.submit_many(low.s(_LONG_S) for _ in range(behind))
    time.sleep(1.0)  # until the first of them run: an idle queue would start HIGH at once
    waits = []
    for number in range(urgent):
        handle = high(number)
        handle.result(60)
        shown = handle.status()
        created, started = (
            datetime.fromisoformat(shown[name]) for name in ("created_at", "started_at")
        )
        waits.append(1_000 * (started - created).total_seconds())
    for handle in waiting:
        handle.cancel()
    return waits


def _cancelled(count: int) -> list[float]:
    """Return the seconds from the call to the end, of tasks that wait and of ones in C code."""
    took = []
    for number in range(count):
        handle = (tasks.waits if number % 2 else tasks.sleeps)(60)
        while not handle.status()["worker_id"]:
            time.sleep(0.02)  # a handle has no event for a start
        started_s = time.monotonic()
        handle.cancel()
        try:
            handle.result(60)
        except TaskCancelled:
            took.append(time.monotonic() - started_s)
    return took


def _queued(target: Target, count: int, is_tiny: bool) -> dict[str, Any]:
    """Return what very many waiting tasks cost, and how soon a killed queue has them again."""
    queue = _queue_process()
    later = tasks.noop.options(delay_s=86_400.0)
    handles: list[Any] = []
    for first in range(0, count, 5_000):
        handles += finstage.submit_many(later.s(n) for n in range(min(5_000, count - first)))
    found: dict[str, Any] = {"queue_mib": _pss_mib(queue.pid)}
    if is_tiny:  # the service that is given is others' too
        for handle in handles:
            handle.cancel()
        return found
    started_s = time.monotonic()
    os.kill(queue.pid, signal.SIGKILL)
    with httpx.Client(base_url=target.url, timeout=60, trust_env=False) as http:
        while True:
            answer = http.post("/api/tasks/submit", json={"task_name": "tests.fakes.tasks.noop"})
            if answer.status_code == 202:
                break
            time.sleep(0.05)
        found["restart_s"] = time.monotonic() - started_s
        figures = http.get("/api/tasks/status").json()["data"]["queue_statistics"]
    found["after_restart"] = figures["scheduled_tasks"]
    return found


def _queue_process() -> psutil.Process:
    return next(
        process
        for process in psutil.process_iter(["cmdline"])
        if (process.info["cmdline"] or [""])[0].startswith("ray::TaskQueueActor")
    )


def _pss_mib(pid: int) -> float:
    text = psutil.Process(pid).memory_full_info()
    return float(text.pss) / 2**20


def _celery(count: int, rounds: int) -> list[float]:
    """Return tasks a second of Celery."""
    command = [sys.executable, "-m", "benchmarks.peers.celery_noop"]
    done = subprocess.run(
        [*command, str(_WORKERS), str(count), str(rounds)],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    return [float(line) for line in done.stdout.split()]


def _report(found: dict[str, Any]) -> Report:
    ours, raw, celery = found["ours"], found["raw"], found["celery"]
    urgent, cancel = Summary.of(found["urgent_ms"]), Summary.of(found["cancel_s"])
    two_end_ms = 1_000 * _LONG_S * 2
    claims = [
        _against("raw Ray through an actor", ours, raw, _OF_RAW),
        _against("Celery", ours, celery, _OF_CELERY),
        Claim(
            f"over HTTP from {_CONNECTIONS} connections: at least {_HTTP_PER_S:g} a second",
            f"{found['http_per_s']:,.0f}/s",
            found["http_per_s"] >= _HTTP_PER_S,
        ),
        Claim(
            f"HIGH behind {_BEHIND:,} LOW: p99 under {_URGENT_MS:g} ms and two tasks' ends",
            f"{urgent.p99:,.0f} ms, of which two ends {two_end_ms:g}",
            urgent.p99 < _URGENT_MS + two_end_ms,
        ),
        Claim(
            f"cancel to stopped: p99 under {_CANCEL_S:g} s",
            f"{cancel.p99:.2f} s",
            cancel.p99 < _CANCEL_S,
        ),
        Claim(
            f"{_QUEUED:,} tasks: under {_QUEUE_MIB:g} MiB in the queue",
            f"{found['queue_mib']:.0f} MiB",
            found["queue_mib"] < _QUEUE_MIB,
        ),
    ]
    if "restart_s" in found:
        claims.append(
            Claim(
                f"and a killed queue takes tasks again in under {_RESTART_S:g} s",
                f"{found['restart_s']:.1f} s, with {found['after_restart']:,}",
                found["restart_s"] < _RESTART_S,
            )
        )
    rows = [
        (name, Summary.of(rates).shown(0))
        for name, rates in (("finstage, durable", ours), ("raw Ray", raw), ("Celery", celery))
    ]
    tables = [
        Table("Tasks a second, submit to result", ("what", "median (range)"), rows),
        Table(
            "How soon",
            ("what", "median", "p99", "most"),
            [_shown("urgent, ms", urgent), _shown("cancel, s", cancel)],
        ),
    ]
    return Report(NAME, "Tasks", _METHOD, claims, tables, found)


def _against(name: str, ours: Sequence[float], peer: Sequence[float], least: float) -> Claim:
    times = ratio(ours, peer)
    low, high = ratio_interval(ours, peer)
    return Claim(
        f"at least {least:g} x {name}",
        f"{times:.2f} x ({low:.2f} to {high:.2f})",
        times >= least,
    )


def _shown(name: str, summary: Summary) -> tuple[str, str, str, str]:
    return name, f"{summary.median:.2f}", f"{summary.p99:.2f}", f"{summary.most:.2f}"
