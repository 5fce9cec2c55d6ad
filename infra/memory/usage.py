"""Memory as the system counts it: of a process, of a tree of them, of the machine."""

from __future__ import annotations

import contextlib
import gc
from dataclasses import dataclass

import psutil

MIB = 2**20


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Memory of one process, and of the machine it runs on, in bytes and per cent.

    `process_pct` is the process's share, `system_pct` what all processes use of the machine.
    """

    rss_bytes: int
    vms_bytes: int
    process_pct: float
    system_pct: float
    available_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Objects:
    """What Python's collector knows: objects by generation, and what it could not free."""

    total: int
    generations: tuple[int, int, int]
    uncollectable: int


def memory_use(process: psutil.Process | None = None) -> MemoryUse:
    """Return the memory of a process, this one if none is given."""
    process = process or psutil.Process()
    own, system = process.memory_info(), psutil.virtual_memory()
    return MemoryUse(
        own.rss,
        own.vms,
        100 * own.rss / system.total,
        system.percent,
        system.available,
        system.total,
    )


def objects() -> Objects:
    """Count the objects of this process; walks through all of them, some milliseconds."""
    young, middle, old = (len(gc.get_objects(generation)) for generation in range(3))
    generations = young, middle, old
    total = sum(generations) + gc.get_freeze_count()
    return Objects(total, generations, len(gc.garbage))


def tree_bytes(root: psutil.Process) -> dict[int, int]:
    """Return what each process of a tree takes, by pid; pages that several share are shared out.

    Reads the page tables of each: some milliseconds for every process. Where the system does not
    tell shares, what is resident.
    """
    found: dict[int, int] = {}
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.Error, OSError):
            found[process.pid] = _proportional(process)
    return found


def _proportional(process: psutil.Process) -> int:
    try:
        with open(f"/proc/{process.pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (FileNotFoundError, PermissionError):
        pass
    return int(process.memory_info().rss)
