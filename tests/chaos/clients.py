"""Who uses the service while its processes are killed, and what each of them was promised."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

import finstage
from tests.chaos import streams
from tests.chaos.streams import StreamLog

_PROBE_EVERY_S = 0.1
_ASKED_FOR_S = 20.0  # a client's patience with one request
_QUOTED = re.compile(r"'[^']*'")
_ROUTES = (
    "/api/v2/quotes?symbols=AAPL,MSFT,IBM",
    "/api/v2/technical-analysis/indicators/{}?period=1y",
    "/api/v2/prices/{}/history?period=1mo",
    "/api/v2/technical-analysis/ranking?by=roc(20)",
    "/api/v2/alerts/fired?limit=5",
    "/api/tasks/queue/stats",
    "/api/v2/symbols",
    "/health/ready",
    "/metrics",
)


@dataclass(slots=True)
class Answers:
    """What HTTP said. `good_s`: when the probe was answered, on `clock`."""

    clock: Callable[[], float]
    counts: Counter[str] = field(default_factory=Counter)
    good_s: list[float] = field(default_factory=list)

    def take(self, answer: httpx.Response) -> None:
        """Count an answer under its status and, of errors, its code."""
        self.counts[_named(answer)] += 1

    def broken(self, error: httpx.HTTPError) -> None:
        """Count a connection that gave none."""
        self.counts[f"no answer: {type(error).__name__}"] += 1


def _named(answer: httpx.Response) -> str:
    if answer.status_code < 400:
        return str(answer.status_code)
    try:
        detail = answer.json()["detail"]
        code = detail["code"] if isinstance(detail, dict) else detail[0]["type"]
    except (ValueError, KeyError, TypeError, IndexError):
        first = (answer.text.splitlines() or ["nothing"])[0]
        code = f"in other words: {_QUOTED.sub('…', first)[:40]}"
    return f"{answer.status_code} {code}"


@dataclass(slots=True)
class Promises:
    """What was acknowledged. Tasks by name with their id; rules by id with what they must be.

    `unsure`: asked for without an answer, so that either outcome is right.
    """

    tasks: dict[str, str] = field(default_factory=dict)
    unsure_tasks: set[str] = field(default_factory=set)
    rules: dict[str, bool | None] = field(default_factory=dict)  # enabled; None: deleted
    unsure_rules: set[str] = field(default_factory=set)
    changes: int = 0
    job_is_paused: bool | None = None


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of HTTP as programs have one: patient, and without a proxy."""
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=20)
    async with httpx.AsyncClient(
        base_url=url, timeout=_ASKED_FOR_S, trust_env=False, limits=limits
    ) as http:
        yield http


async def follow(
    url: str, log: StreamLog, sequence: streams.Sequence, news_s: list[float]
) -> None:
    """Take prices for ever; `news_s` gets the moment of each."""
    stream = finstage.StreamClient(url)
    mode = "all" if log.is_whole else "latest"
    async for message in stream.subscribe(sorted(log.symbols), mode=mode):
        log.take(message, stream.resyncs)
        streams.sequence_of([message], sequence)
        news_s.append(time.monotonic())


async def probe(http: httpx.AsyncClient, answers: Answers) -> None:
    """Ask for one price ten times a second, whatever became of the questions before."""
    asked: set[asyncio.Task[None]] = set()

    async def ask() -> None:
        try:
            answer = await http.get("/api/v2/async/symbols/AAPL/price", timeout=10)
        except httpx.HTTPError as error:
            answers.broken(error)
            return
        answers.take(answer)
        if answer.status_code == 200:
            answers.good_s.append(answers.clock())

    try:
        while True:
            asked.add(task := asyncio.create_task(ask()))
            task.add_done_callback(asked.discard)
            await asyncio.sleep(_PROBE_EVERY_S)
    finally:
        for task in asked:
            task.cancel()


async def poll(
    http: httpx.AsyncClient, symbols: Sequence[str], seed: int, answers: Answers
) -> None:
    """Ask one route after the other for ever."""
    draws = random.Random(seed)
    while True:
        route = draws.choice(_ROUTES).format(draws.choice(symbols))
        await _asked(http.get(route), answers)
        await asyncio.sleep(draws.uniform(0.05, 0.4))


async def submit(
    http: httpx.AsyncClient, number: int, folder: Path, promises: Promises, answers: Answers
) -> None:
    """Submit tasks for ever, each until it is accepted: its key makes it one task."""
    draws = random.Random(number)
    count = 0
    while True:
        name = f"t{number}-{(count := count + 1)}"
        kwargs = {"folder": str(folder), "name": name, "seconds": draws.choice((0, 0, 0, 0.2, 2))}
        body = {"task_name": "tests.fakes.tasks.marks", "kwargs": kwargs}
        promises.unsure_tasks.add(name)
        while True:
            answer = await _asked(
                http.post("/api/tasks/submit", json=body, headers={"Idempotency-Key": name}),
                answers,
            )
            if answer is not None and answer.status_code == 202:
                promises.tasks[name] = answer.json()["data"]["task_id"]
                promises.unsure_tasks.discard(name)
                break
            await asyncio.sleep(draws.uniform(0.1, 0.5))
        await asyncio.sleep(draws.uniform(0.2, 0.8))


async def change_rules(
    http: httpx.AsyncClient, number: int, promises: Promises, answers: Answers
) -> None:
    """Make, switch and delete alert rules for ever, and keep what was acknowledged."""
    draws = random.Random(number)
    own: list[str] = []
    while True:
        await asyncio.sleep(draws.uniform(0.2, 1.0))
        if len(own) < 5:
            body = {
                "name": f"of {number}",
                "symbols": [draws.choice(("AAPL", "IBM", "MSFT"))],
                "expression": f"price > {draws.uniform(1, 900):.2f}",
                "repeat": "again",
            }
            answer = await _asked(http.post("/api/v2/alerts/price", json=body), answers)
            if answer is not None and answer.status_code == 201:
                own.append(rule := answer.json()["id"])
                promises.rules[rule] = True
                promises.changes += 1
            continue
        rule = draws.choice(own)
        await _switched(http, rule, draws, promises, answers)
        if promises.rules.get(rule) is None or rule in promises.unsure_rules:
            own.remove(rule)


async def _switched(
    http: httpx.AsyncClient, rule: str, draws: random.Random, promises: Promises, answers: Answers
) -> None:
    path = f"/api/v2/alerts/price/{rule}"
    wanted = draws.choice((True, False, None))
    if wanted is None:
        request = http.delete(path)
    else:
        request = http.put(f"{path}/{'enable' if wanted else 'disable'}")
    answer = await _asked(request, answers)
    if answer is not None and answer.status_code == 200:
        promises.rules[rule] = wanted
        promises.changes += 1
    else:
        promises.unsure_rules.add(rule)


async def pause_job(http: httpx.AsyncClient, promises: Promises, answers: Answers) -> None:
    """Pause and resume a job for ever."""
    for is_paused in _turns():
        path = f"/api/scheduler/jobs/bars.daily/{'pause' if is_paused else 'resume'}"
        promises.job_is_paused = None
        answer = await _asked(http.post(path), answers)
        if answer is not None and answer.status_code == 200:
            promises.job_is_paused = is_paused
            promises.changes += 1
        await asyncio.sleep(1.5)


def _turns() -> Iterator[bool]:
    while True:
        yield True
        yield False


async def _asked(asked: Any, answers: Answers) -> httpx.Response | None:
    try:
        answer: httpx.Response = await asked
    except httpx.HTTPError as error:
        answers.broken(error)
        return None
    answers.take(answer)
    return answer


async def ended(tasks: list[asyncio.Task[None]]) -> list[str]:
    """End what goes on for ever; return why some ended by themselves."""
    reasons = [repr(task.exception()) for task in tasks if task.done() and not task.cancelled()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return reasons
