"""The processes that one Finstage started, so that a stop leaves none."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

Known = dict[int, float]  # pid to create time, which together name a process for good

LOCK = "lock"  # the file in its folder that a `finstage up` holds
_MARK = "RUN_OF_FINSTAGE"  # what begins with FINSTAGE_ is a setting


class ProcessTree:
    """The descendants of this process that run, and all with the mark of its folder's lock.

    The mark is set before the first of them is started and inherited by each, so it finds those
    whose parent ended unseen: an HAProxy of a reload, when Serve's manager of it has died. What
    bears another mark is another Finstage's, whoever started it.
    """

    def __init__(self, folder: Path) -> None:
        self.known: Known = {}
        self._folder = folder
        self._mark: str | None = None

    def mark(self) -> None:
        """Let all that is started from now on bear the mark; the folder is locked.

        Where this process was itself started with another's, it begins anew with its own: what
        others see of its environment is what it was started with.
        """
        self._mark = _mark_of(self._folder)
        assert self._mark is not None
        inherited = os.environ.get(_MARK, self._mark)
        os.environ |= {_MARK: self._mark, "SPT_NOENV": "1"}
        # Without the latter, workers of Ray write their titles over what tells the mark.
        if inherited != self._mark:
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    @property
    def has_folder(self) -> bool:
        """Return whether the folder is still that of the mark, not moved or replaced."""
        return _mark_of(self._folder) == self._mark

    def look(self) -> Known:
        """Add the descendants there are now; return those ever seen that still run."""
        self.known |= known_of(psutil.Process().children(recursive=True))
        self.known = known_of(alive(self.known))
        if self._mark is not None:
            self.known = _without_others(self.known, self._mark)
        return self.known

    def look_everywhere(self) -> Known:
        """Add those with the mark too, whose parent may have ended."""
        mark = self._mark or _mark_of(self._folder)
        if mark is not None:
            self.known |= _bearing(mark)
        return self.look()


def _mark_of(folder: Path) -> str | None:
    """Return the mark of a folder, None before it was ever locked.

    It is the lock's file, not its path: a folder that took another's place has other processes.
    While a Finstage runs it has the file open, so no other file can be the same.
    """
    try:
        found = (folder / LOCK).stat()
    except OSError:
        return None
    return f"{found.st_dev:x}:{found.st_ino:x}"


def marked(folder: Path) -> Known:
    """Return the processes that bear the mark of a folder, and their descendants."""
    mark = _mark_of(folder)
    return {} if mark is None else _bearing(mark)


def without_others(known: Known, folder: Path) -> Known:
    """Return those of the known processes that bear no mark but that of a folder."""
    mark = _mark_of(folder)
    return known if mark is None else _without_others(known, mark)


def _bearing(mark: str) -> Known:
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and _borne_by(process) == mark:
                found[process.pid] = process.create_time()
    return found


def _without_others(known: Known, mark: str) -> Known:
    """Return them without one that became another Finstage after it was seen."""
    found = {}
    for pid, created_s in known.items():
        with contextlib.suppress(psutil.Error, OSError):
            if _borne_by(psutil.Process(pid)) not in (None, mark):
                continue
        found[pid] = created_s
    return found


def _borne_by(process: psutil.Process | None) -> str | None:
    """Return the mark that a process bears, or else the nearest above it."""
    while process is not None:
        if (mark := _mark_on(process)) is not None:
            return mark
        process = process.parent()
    return None


def _mark_on(process: psutil.Process) -> str | None:
    with contextlib.suppress(psutil.Error, OSError):
        return process.environ().get(_MARK)
    return None


def known_of(processes: Iterable[psutil.Process]) -> Known:
    """Return what names the processes; one that ends meanwhile is left out."""
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
