"""The processes behind one start, and the memory that each has to itself."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

import psutil

_ROLES = (
    (r"^ray::ServeReplica:\S*?:(\w+)", r"replica \1"),
    (r"^ray::(\w+)", r"ray \1"),
    (r"ray-dashboard-(\w+?)-\d", r"dashboard \1"),
    (r"gcs_server", "ray gcs_server"),
    (r"raylet/raylet", "ray raylet"),
    (r"log_monitor\.py", "ray log monitor"),
    (r"autoscaler/\S*monitor\.py", "ray autoscaler monitor"),
    (r"dashboard/dashboard\.py", "dashboard"),
    (r"forkserver", "dashboard fork server"),
    (r"resource_tracker", "dashboard resource tracker"),
    (r"haproxy", "haproxy"),
    (r"default_worker\.py", "ray worker"),
    (r"(finstage up|serve run)", r"\1"),
)


@dataclass(frozen=True, slots=True)
class Held:
    """The proportional set size of one process: shared pages are divided by who shares them."""

    role: str
    pid: int
    pss_mb: float
    private_mb: float


class Tree:
    """A process and its descendants, those whose parent has ended included once seen."""

    def __init__(self, pid: int) -> None:
        self._known = {pid: psutil.Process(pid)}
        self._root = self._known[pid]

    def look(self) -> list[psutil.Process]:
        """Return the processes that run."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in self._root.children(recursive=True):
                self._known.setdefault(child.pid, child)
        return [process for process in self._known.values() if _runs(process)]

    def memory(self) -> list[Held]:
        """Return what each process holds, the largest first."""
        held = [found for process in self.look() if (found := _held(process)) is not None]
        return sorted(held, key=lambda one: -one.pss_mb)

    def end(self, patience_s: float = 10.0) -> None:
        """End what still runs, gently and then by force."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            left = self.look()
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
            psutil.wait_procs(left, timeout=patience_s)


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _held(process: psutil.Process) -> Held | None:
    try:
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        command = " ".join(process.cmdline())
    except (OSError, psutil.NoSuchProcess):
        return None
    sizes = {k: int(v) for k, v in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    private = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return Held(role_of(command), process.pid, sizes["Pss"] / 1024, private / 1024)


def role_of(command: str) -> str:
    """Return what a process is for, from its command line."""
    for pattern, role in _ROLES:
        if match := re.search(pattern, command):
            return match.expand(role)
    return os.path.basename(command.split(" ")[0])
