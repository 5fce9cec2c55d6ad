"""Which processes of a service are killed, and what HTTP did around each kill."""

from __future__ import annotations

import contextlib
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import psutil

from benchmarks.processes import role_of

# Never: `finstage up`, the raylet and the GCS, with which the service ends by design, and Ray's
# agents, with which the raylet does.
KINDS = {
    "ray FeedActor": "FeedActor",
    "ray IndicatorActor": "IndicatorActor",
    "ray HubActor": "HubActor",
    "ray AlertActor": "AlertActor",
    "ray CacheActor": "CacheActor",
    "ray SchedulerActor": "SchedulerActor",
    "ray TaskQueueActor": "TaskQueueActor",
    "ray MonitorActor": "MonitorActor",
    "replica Api": "Api replica",
    "replica Stream": "Stream replica",
    "ray ServeController": "Serve's controller",
    "ray HAProxyManager": "HAProxyManager",
    "ray ProxyActor": "Serve's fallback proxy",
    "haproxy": "haproxy",
    "ray finstage_task": "a task's process",
    "ray IDLE": "an idle worker of Ray",
    "ray run_job": "a job's process",
}
_NO_PAUSE_S = 0.3


@dataclass(frozen=True, slots=True)
class Kill:
    """One process killed; `at_s` on the clock of the answers."""

    kind: str
    pid: int
    at_s: float


def victims(root: int) -> dict[str, list[psutil.Process]]:
    """Return the processes under a `finstage up` that may be killed, by kind."""
    found: dict[str, list[psutil.Process]] = defaultdict(list)
    for process in psutil.Process(root).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            kind = KINDS.get(role_of(" ".join(process.cmdline())))
            if kind is not None and process.status() != psutil.STATUS_ZOMBIE:
                found[kind].append(process)
    return dict(found)


def kill_one(root: int, draws: random.Random, at_s: float) -> Kill | None:
    """Kill a process of a kind drawn among those that run; None if it ended by itself."""
    there = victims(root)
    kind = draws.choice(sorted(there))
    process = draws.choice(sorted(there[kind], key=lambda one: one.pid))
    with contextlib.suppress(psutil.Error):
        process.kill()
        return Kill(kind, process.pid, at_s)
    return None


@dataclass(frozen=True, slots=True)
class Outage:
    """How long nothing came; `kills` are those in it and just before, the first one its cause."""

    began_s: float
    ended_s: float
    kills: tuple[Kill, ...]

    @property
    def took_s(self) -> float:
        """Return its length."""
        return self.ended_s - self.began_s


def outages(
    kills: Sequence[Kill], good_s: Iterable[float], until_s: float, before_s: float = 2.0
) -> list[Outage]:
    """Return the pauses between good answers, around kills, each with the kills that made it."""
    found = []
    for began_s, ended_s in pairwise((*sorted(good_s), until_s)):
        if ended_s - began_s < _NO_PAUSE_S:
            continue
        made_by = tuple(k for k in kills if began_s - before_s <= k.at_s <= ended_s)
        if made_by:
            found.append(Outage(began_s, ended_s, made_by))
    return found


def longest(found: Iterable[Outage], kind: str) -> tuple[float, float]:
    """Return the longest pause that this kind made by itself, and one together with others."""
    alone = together = 0.0
    for outage in found:
        kinds = {kill.kind for kill in outage.kills}
        if kind not in kinds:
            continue
        if kinds == {kind}:
            alone = max(alone, outage.took_s)
        else:
            together = max(together, outage.took_s)
    return alone, together
