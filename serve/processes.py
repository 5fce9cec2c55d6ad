"""The processes that one Finstage started, so that a stop leaves none."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

import psutil

Known = dict[int, float]  # pid to create time, which together name a process for good


class ProcessTree:
    """All descendants of this process ever seen: a reload of HAProxy may leave orphans."""

    def __init__(self) -> None:
        self.known: Known = {}

    def look(self) -> Known:
        """Add the descendants there are now; return all that were ever seen."""
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                self.known[process.pid] = process.create_time()
        return self.known


def alive(known: Known) -> list[psutil.Process]:
    """Return those of the known processes that still run; zombies do not count."""
    found = []
    for pid, created_s in known.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            same = abs(process.create_time() - created_s) < 1
            if same and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def named(processes: Iterable[psutil.Process], part: str) -> list[psutil.Process]:
    """Return the processes with this in their names; one that ends meanwhile has none."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if part in process.name():
                found.append(process)
    return found


def end_all(known: Known, patience_s: float) -> int:
    """End the known processes, gently and then by force; return how many there were."""
    processes = alive(known)
    _each(processes, "terminate")
    psutil.wait_procs(processes, timeout=patience_s)
    left = alive(known)
    _each(left, "kill")
    deadline_s = time.monotonic() + 2
    while alive(known) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return len(processes)


def _each(processes: Iterable[psutil.Process], action: str) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            getattr(process, action)()


def is_running(pid: int, created_s: float) -> bool:
    """Return whether this very process runs."""
    return bool(alive({pid: created_s}))
