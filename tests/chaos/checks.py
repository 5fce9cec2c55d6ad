"""Whether what was acknowledged is there when the killing is over."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.chaos.clients import Promises

_ENDED = ("completed", "failed", "cancelled")
_PATIENCE_S = 240.0
_AT_ONCE = 8


@dataclass(slots=True)
class Kept:
    """Tasks by how they ended, and what is not as it was promised, by name."""

    ended: Counter[str] = field(default_factory=Counter)
    lost_tasks: list[str] = field(default_factory=list)
    begun_again: int = 0  # by side effects: tries beyond the first
    ended_again: int = 0  # by side effects: at least once is promised
    split_keys: list[str] = field(default_factory=list)  # one key, two tasks
    lost_changes: list[str] = field(default_factory=list)


async def ready_again(http: httpx.AsyncClient) -> float | None:
    """Wait until all parts answer; return the seconds, or None if they do not come."""
    began_s = time.monotonic()
    while time.monotonic() - began_s < _PATIENCE_S:
        try:
            answer = await http.get("/health/ready")
            if answer.status_code == 200 and answer.json()["status"] == "ready":
                return time.monotonic() - began_s
        except (httpx.HTTPError, ValueError):
            pass
        await asyncio.sleep(0.5)
    return None


async def kept(http: httpx.AsyncClient, promises: Promises, folder: Path) -> Kept:
    """Ask for all that was promised."""
    found = Kept()
    await _until_all_ended(http)
    room = asyncio.Semaphore(_AT_ONCE)

    async def look(name: str, task_id: str) -> None:
        async with room:
            status = await _status(http, task_id)
        found.ended[status] += 1
        marks = _marks(folder / name)
        ends = sum(what == "ended" for what, _ in marks)
        found.begun_again += max(0, sum(what == "begun" for what, _ in marks) - 1)
        found.ended_again += max(0, ends - 1)
        if len({told for _, told in marks}) > 1:
            found.split_keys.append(name)
        if status not in _ENDED or (status == "completed" and not ends):
            found.lost_tasks.append(f"{name} ({task_id}) is {status}, ended {ends} times")

    await asyncio.gather(*(look(name, task_id) for name, task_id in promises.tasks.items()))
    await _look_at_changes(http, promises, found)
    return found


async def _until_all_ended(http: httpx.AsyncClient) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline_s:
        answer = await http.get("/api/tasks/queue/stats")
        if answer.status_code == 200:
            counts: dict[str, int] = answer.json()["status_counts"]
            if not any(count for status, count in counts.items() if status not in _ENDED):
                return
        await asyncio.sleep(0.5)


async def _status(http: httpx.AsyncClient, task_id: str) -> str:
    for _ in range(5):
        answer = await http.get(f"/api/tasks/task/{task_id}")
        if answer.status_code == 200:
            return str(answer.json()["data"]["status"])
        if answer.status_code < 500:
            break
        await asyncio.sleep(1.0)
    return f"answered with {answer.status_code}"


def _marks(path: Path) -> list[tuple[str, str]]:
    """Return what a task did and under which id, in order."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [(what, told) for what, told, _ in (line.split() for line in lines)]


async def _look_at_changes(http: httpx.AsyncClient, promises: Promises, found: Kept) -> None:
    rules = await _rules(http)
    for rule, is_enabled in promises.rules.items():
        if rule in promises.unsure_rules:
            continue
        there = rules.get(rule)
        if is_enabled is None and there is not None:
            found.lost_changes.append(f"rule {rule} was deleted and is there")
        elif is_enabled is not None and there is None:
            found.lost_changes.append(f"rule {rule} was made and is gone")
        elif is_enabled is not None and there is not None and there["enabled"] is not is_enabled:
            found.lost_changes.append(f"rule {rule} is not as it was switched")
    if promises.job_is_paused is not None:
        jobs = (await http.get("/api/scheduler/jobs")).json()["jobs"]
        (paused,) = [job["paused"] for job in jobs if job["name"] == "bars.daily"]
        if paused is not promises.job_is_paused:
            found.lost_changes.append("bars.daily is not as it was switched")


async def _rules(http: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    page = 1
    while True:
        answer = (await http.get(f"/api/v2/alerts/price?size=500&page={page}")).json()
        found |= {rule["id"]: rule for rule in answer["items"]}
        if not answer["pagination"]["has_next"]:
            return found
        page += 1
