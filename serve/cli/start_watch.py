"""How long a start may take on a slow machine, and what it says meanwhile."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

import psutil

START_WITHIN_S = 600.0  # twenty times what a start takes on two cores that have nothing else to do
_SAY_EVERY_S = 30.0


class StartTimedOut(BaseException):
    """Raised in the main thread when a start comes to nothing, past all that catches errors."""


class StartWatch:
    """Tells `say` every half minute where a start is, and raises StartTimedOut at its end.

    For the main thread: it is an alarm clock's signal, so that it reaches a wait inside Ray too.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        within_s: float = START_WITHIN_S,
        say_every_s: float = _SAY_EVERY_S,
    ) -> None:
        self._say = say
        self._within_s = within_s
        self._every_s = say_every_s
        self._began_s = time.monotonic()
        self._before: Any = None
        self.stage = "starting"

    @property
    def took_s(self) -> float:
        """Return how long the start has taken so far."""
        return time.monotonic() - self._began_s

    def __enter__(self) -> Self:
        self._began_s = time.monotonic()
        self._before = signal.signal(signal.SIGALRM, self._on_alarm)
        self._set(min(self._every_s, self._within_s))
        return self

    def __exit__(self, *_: object) -> None:
        self._set(0.0)
        signal.signal(signal.SIGALRM, self._before)

    def _set(self, after_s: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, after_s)

    def _on_alarm(self, _signal: int, _frame: FrameType | None) -> None:
        left_s = self._within_s - self.took_s
        if left_s <= 0:
            raise StartTimedOut(f"not done within {self._within_s:g} s")
        load, cores = os.getloadavg()[0], psutil.cpu_count()
        self._say(
            f"{self.stage}: {self.took_s:.0f} s so far, the load is {load:.0f} on {cores} cores"
        )
        self._set(min(self._every_s, left_s))
