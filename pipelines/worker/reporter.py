"""Tells the queue, from beside a running task, that it runs and how far it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

LAZY_S = 0.1  # a task that ends sooner is never told of before its end
_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class Note:
    """What is told: a try of a task runs, since when, and how far it is."""

    task_id: str
    attempt: int
    started_s: float
    worker: str
    progress: float
    message: str


class Reporter:
    """A thread of this process that sends notes; `send` may be slow, and must not raise."""

    def __init__(self, worker: str, send: Callable[[Note], None]) -> None:
        self._worker = worker
        self._send = send
        self._changed = threading.Condition()
        self._note: Note | None = None
        self._due_s = 0.0
        self._is_told = True
        threading.Thread(target=self._run, daemon=True, name="finstage-reporter").start()

    def begin(self, task_id: str, attempt: int, started_s: float, at_once: bool) -> None:
        """Take a task; `at_once` tells of it now, and not only when it lasts."""
        note = Note(task_id, attempt, started_s, self._worker, 0.0, "")
        if at_once:
            self._send(note)
        with self._changed:
            self._note, self._is_told = note, at_once
            self._due_s = time.monotonic() + LAZY_S
            if not at_once:
                self._changed.notify()

    def progress(self, pct: float, message: str) -> None:
        """Take how far the task is."""
        with self._changed:
            if (note := self._note) is not None:
                at = (note.task_id, note.attempt, note.started_s, note.worker)
                self._note, self._is_told = Note(*at, pct, message), False
                self._changed.notify()

    def end(self) -> float:
        """Tell no more of the task; return its last progress."""
        with self._changed:
            note, self._note = self._note, None
            return 0.0 if note is None else note.progress

    def _run(self) -> None:
        while True:
            self._send(self._next())

    def _next(self) -> Note:
        with self._changed:
            while True:
                left_s = self._due_s - time.monotonic()
                if self._note is None or self._is_told:
                    self._changed.wait()
                elif left_s > 0:
                    self._changed.wait(left_s)
                else:
                    self._is_told, self._due_s = True, time.monotonic() + _EVERY_S
                    return self._note
