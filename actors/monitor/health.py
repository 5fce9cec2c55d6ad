"""How the machine and the processes of the service are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from actors.monitor.reading import Reading

Status = Literal["healthy", "degraded", "unhealthy"]


_STATUSES: tuple[Status, ...] = ("healthy", "degraded", "unhealthy")


@dataclass(frozen=True, slots=True)
class Check:
    """How one part of the machine is."""

    status: Status
    message: str


def health(reading: Reading, largest_process_mb: float | None = None) -> dict[str, Check]:
    """Return how processor and memory, disk, and the largest process of the service are.

    Over 80 % (a process: 500 MB) is degraded, over 95 % (1,000 MB) unhealthy; the processor of a
    start is told only. `memory_usage` is there if the size of the largest process is given.
    """
    cpu = _check("CPU", reading.cpu_percent)
    if reading.is_start:
        cpu = Check("healthy", f"{cpu.message} while it starts")
    memory = _check("memory", reading.memory_percent)
    both = Check(worst((cpu, memory)), f"{cpu.message}, {memory.message}")
    checks = {
        "system_resources": both,
        "disk_space": _check("disk", reading.disk_usage_percent),
    }
    if largest_process_mb is not None:
        status = _status(largest_process_mb, 500, 1_000)
        message = f"the largest process has {largest_process_mb:,.0f} MB"
        checks["memory_usage"] = Check(status, message)
    return checks


def worst(checks: Iterable[Check]) -> Status:
    """Return the worst status, healthy of none."""
    return max((check.status for check in checks), key=_STATUSES.index, default="healthy")


def _check(name: str, percent: float) -> Check:
    return Check(_status(percent, 80, 95), f"{name} {percent:.0f} %")


def _status(value: float, degraded: float, unhealthy: float) -> Status:
    return "unhealthy" if value > unhealthy else "degraded" if value > degraded else "healthy"
