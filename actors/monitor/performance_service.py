"""How the service does: readings of the last hour and day, and what they say."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import orjson

from actors.monitor import summary
from actors.monitor.findings import Finding, Watch
from actors.monitor.grades import Grade, grade
from actors.monitor.health import health, worst
from actors.monitor.plain import plain, restored
from actors.monitor.reading import Reading
from actors.monitor.report import recommendations, report
from actors.monitor.repository import MonitorRepository
from actors.monitor.sampling import Machine, Sampler, largest_process, quantile
from actors.runtime import exposed
from infra.errors import MonitorUnknown
from infra.messages import PERFORMANCE, Message
from infra.metrics import GRADE, HAPROXIES, MACHINE_CPU, MACHINE_DISK, Families, samples_of

logger = logging.getLogger(__name__)

READING = "reading"
DAY_H = 24.0
_MINUTE_S = 60.0
_FINE, _MINUTES = 360, 1_440
_ROUTES = 20  # that a minute's reading keeps
_GRADES = list(Grade)[::-1]
_MIB = 2**20

Tell = Callable[[Message], Awaitable[None]]


class PerformanceService:
    """State: readings of ten seconds for an hour, soft; of a minute for a day, in the store."""

    def __init__(self, repository: MonitorRepository, tell: Tell, process: str) -> None:
        self._repository = repository
        self._tell = tell
        self._process = process
        self._sampler = Sampler()
        self._minute_sampler = Sampler()
        self._minute_s = float("-inf")
        self.fine: deque[Reading] = deque(maxlen=_FINE)
        self.minutes: deque[Reading] = deque(maxlen=_MINUTES)
        self._unkept: list[Reading] = []
        self._families: Families = {}
        self._watch = Watch()
        self._loaded_s = float("-inf")
        self._cpu: dict[str, float] = {}
        self._cpu_s = 0.0
        self._cpu_percent: dict[str, float] = {}

    async def load(self) -> None:
        """Take the readings of the last day."""
        kept = await self._repository.since(READING, DAY_H)
        self.minutes.extend(restored(Reading, body) for body in kept)
        self._loaded_s = self._repository.now_s

    @property
    def own_minutes(self) -> list[Reading]:
        """Return the last hour's readings of this process: those before are of another run.

        What is loaded is history; what is to be done is decided by what is now.
        """
        return [minute for minute in list(self.minutes)[-60:] if minute.at_s > self._loaded_s]

    async def take(
        self, families: Families, machine: Machine
    ) -> tuple[Reading | None, list[Finding]]:
        """Take what is counted now; return the new reading, and what a full minute shows."""
        now_s = self._repository.now_s
        self._families = families
        self._cpu, before = _by_process(families, "finstage_process_cpu_seconds"), self._cpu
        since_s, self._cpu_s = now_s - self._cpu_s, now_s
        self._cpu_percent = {
            process: 100 * max(0.0, seconds - before[process]) / since_s
            for process, seconds in self._cpu.items()
            if process in before
        }
        HAPROXIES.labels(self._process).set(machine.haproxy_processes)
        MACHINE_CPU.labels(self._process).set(machine.cpu_percent)
        MACHINE_DISK.labels(self._process).set(machine.disk_usage_percent)
        findings: list[Finding] = []
        if now_s - self._minute_s >= _MINUTE_S:
            self._minute_s = now_s
            minute = self._minute_sampler.reading(families, machine, now_s)
            if minute is not None:
                findings = self._watch.take(minute)
                minute = replace(minute, routes=minute.routes[:_ROUTES])
                self.minutes.append(minute)
                self._unkept = [*self._unkept, minute][-_MINUTES:]
        reading = self._sampler.reading(families, machine, now_s)
        if reading is not None:
            self.fine.append(reading)
            GRADE.labels(self._process).set(_GRADES.index(grade(reading)))
            await self._push(reading)
        return reading, findings

    async def keep(self) -> None:
        """Write the minutes that are not in the store yet; raises StoreError, and tries again."""
        while self._unkept:
            await self._repository.note(READING, "", plain(self._unkept[0]))
            del self._unkept[0]

    async def _push(self, reading: Reading) -> None:
        data = summary.current(reading) | {
            "tasks_unfinished": reading.tasks_unfinished,
            "tasks_ended": reading.tasks_ended,
        }
        body = orjson.dumps({"type": "metrics_update", "data": data})
        await self._tell(Message(PERFORMANCE + "now", body))

    # -- what is asked ----------------------------------------------------------------------

    @exposed
    async def current(self) -> dict[str, Any]:
        """Return the last reading; raises MonitorUnknown before there is one."""
        return summary.current(self._last())

    @exposed
    async def dashboard(self) -> dict[str, Any]:
        """Return what the page shows of readings, processes, caches and stages."""
        last = self._last()
        now_s = self._repository.now_s
        return {
            "timestamp": summary.iso(now_s),
            "status": str(grade(last)),
            "current": summary.current(last),
            "series": [_point(reading) for reading in self.fine],
            "routes": summary.routes(list(self.fine), 10, now_s),
            "hit_rates": last.hit_rates,
            "processes": _processes(self._families, self._cpu_percent),
            "tasks": {
                "unfinished": last.tasks_unfinished,
                "ended": sum(reading.tasks_ended for reading in self.fine),
                "failed": sum(reading.tasks_failed for reading in self.fine),
            },
            "stages": _stages(self._families),
            "recommendations": recommendations(self.own_minutes),
        }

    @exposed
    async def windowed(self, minutes: float) -> dict[str, Any]:
        """Return the last reading and the figures of the last minutes."""
        now_s = self._repository.now_s
        readings = list(self.fine if minutes <= 60 else self.minutes)
        return {"current": summary.current(self._last())} | summary.windowed(
            readings, minutes, now_s
        )

    @exposed
    async def history(self, hours: float) -> dict[str, Any]:
        """Return the figures of the last hours."""
        return summary.summary(self._readings(hours), hours, self._repository.now_s)

    @exposed
    async def report(self, hours: float) -> dict[str, Any]:
        """Return all that the last hours say."""
        return report(self._readings(hours), hours, self._repository.now_s)

    @exposed
    async def health(self) -> dict[str, Any]:
        """Return how machine, disk and the largest process are."""
        largest = largest_process(self._families)
        checks = health(self._last(), largest[1] if largest else None)
        return {
            "status": worst(checks.values()),
            "checks": {
                name: {"status": check.status, "message": check.message}
                for name, check in checks.items()
            },
        }

    def _readings(self, hours: float) -> list[Reading]:
        minutes = list(self.minutes)
        return minutes if minutes or hours > 1 else list(self.fine)

    def _last(self) -> Reading:
        if not self.fine:
            raise MonitorUnknown("reading yet: the first comes within ten seconds")
        return self.fine[-1]


def _point(reading: Reading) -> dict[str, Any]:
    found = summary.current(reading)
    wanted = (
        "timestamp", "avg_response_time_ms", "p95_response_time_ms", "memory_usage_percent",
        "cpu_usage_percent", "cache_hit_rate_percent", "active_connections",
        "requests_per_second",
    )  # fmt: skip
    return {name: found[name] for name in wanted} | {
        "tasks_unfinished": reading.tasks_unfinished,
        "tasks_ended": reading.tasks_ended,
    }


def _processes(families: Families, cpu: dict[str, float]) -> list[dict[str, Any]]:
    resident = _by_process(families, "finstage_process_resident_bytes")
    lag = _by_process(families, "finstage_event_loop_lag_seconds")
    return [
        {
            "process": process,
            "resident_mb": round(size / _MIB, 1),
            "cpu_percent": round(cpu[process], 1) if process in cpu else None,
            "event_loop_lag_ms": round(1_000 * lag[process], 2) if process in lag else None,
        }
        for process, size in sorted(resident.items(), key=lambda item: -item[1])
    ]


def _by_process(families: Families, name: str) -> dict[str, float]:
    return {labels["process"]: value for labels, value in samples_of(families, name)}


def _stages(families: Families) -> list[dict[str, Any]]:
    """Return the time of values in each stage, since the start."""
    buckets: dict[str, dict[float, float]] = {}
    for labels, value in samples_of(families, "finstage_stage_duration_seconds"):
        if "le" in labels:
            buckets.setdefault(labels["stage"], {})[float(labels["le"])] = value
    found = []
    for stage in ("source", "compute", "hub", "write"):
        bounds = sorted(buckets.get(stage, {}))
        counts = [buckets[stage][bound] for bound in bounds]
        p50, p99 = (quantile(q, bounds, counts) for q in (0.5, 0.99))
        found.append(
            {
                "stage": stage,
                "p50_ms": None if p50 is None else round(1_000 * p50, 3),
                "p99_ms": None if p99 is None else round(1_000 * p99, 3),
            }
        )
    return found
