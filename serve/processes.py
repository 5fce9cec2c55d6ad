"""The processes that one Finstage started, so that a stop leaves none."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

Known = dict[int, float]  # pid to create time, which together name a process for good

_MARK = "RUN_OF_FINSTAGE"  # what begins with FINSTAGE_ is a setting


class ProcessTree:
    """All descendants of this process ever seen, and all with the mark of its folder.

    The mark is set before the first of them is started and inherited by each, so it finds those
    whose parent ended unseen: an HAProxy of a reload, when Serve's manager of it has died.
    """

    def __init__(self, folder: Path) -> None:
        self.known: Known = {}
        self._folder = folder

    def mark(self) -> None:
        """Let all that is started from now on bear the mark."""
        os.environ |= {_MARK: str(self._folder.resolve()), "SPT_NOENV": "1"}
        # Without the latter, workers of Ray write their titles over what tells the mark.

    def look(self) -> Known:
        """Add the descendants there are now; return all that were ever seen."""
        self.known |= _known(psutil.Process().children(recursive=True))
        return self.known

    def look_everywhere(self) -> Known:
        """Add those with the mark too, whose parent may have ended."""
        self.known |= marked(self._folder)
        return self.look()


def marked(folder: Path) -> Known:
    """Return the processes that bear the mark of a folder, and all their descendants."""
    mark = str(folder.resolve())
    found: Known = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(_MARK) == mark:
                found |= _known([process, *process.children(recursive=True)])
    found.pop(os.getpid(), None)
    return found


def _known(processes: Iterable[psutil.Process]) -> Known:
    found = {}
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            found[process.pid] = process.create_time()
    return found


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
    await_end(known, patience_s)
    _each(alive(known), "kill")
    await_end(known, 2.0)
    return len(processes)


def await_end(known: Known, patience_s: float) -> None:
    """Wait until none of them runs; one that nobody reaps has ended all the same."""
    deadline_s = time.monotonic() + patience_s
    while alive(known) and time.monotonic() < deadline_s:
        time.sleep(0.05)


def _each(processes: Iterable[psutil.Process], action: str) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            getattr(process, action)()


def proportional_bytes(processes: Iterable[psutil.Process]) -> int:
    """Return the memory of processes, each shared page counted once for all who share it.

    Where the system does not tell that, their resident sizes.
    """
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            memory = process.memory_full_info()
            total += getattr(memory, "pss", memory.rss)
    return total


def is_running(pid: int, created_s: float) -> bool:
    """Return whether this very process runs."""
    return bool(alive({pid: created_s}))
