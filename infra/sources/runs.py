"""Runs: a source that plays the past begins it anew with a start, and after its last session.

What is remembered of a run (cool-downs, alerts) says nothing of the next: its times come again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from infra.clock import utc
from infra.settings import Settings
from infra.sources.replay import REPLAYED_SESSIONS

# Sources whose times come again; those of all others go on, however often a service starts.
REPEATED = ("replay", "recording")

Number = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Run:
    """The present run of a source; `began_at` is wall time, None where nothing came before it."""

    source: str
    began_at: datetime | None = None


def present_run(source: str, settings: Settings, now_s: float) -> Run:
    """Return the run of a source that is under way at a wall time (Unix seconds)."""
    started_s = settings.replay_started_at_s
    if source not in REPEATED or not started_s:
        return Run(source)
    if source == "replay":
        run_s = REPLAYED_SESSIONS * settings.replay_session_s
        started_s += max(0.0, (now_s - started_s) // run_s) * run_s
    return Run(source, utc(started_s))


def run_number(data_version: str) -> Number | None:
    """Return the start and the run that a replay's data version is of; None for other data.

    A later run's is greater.
    """
    name, *numbers = data_version.split("-")
    return (int(numbers[0]), int(numbers[1])) if name == "replay" else None


class RunWatch:
    """Which run of a source prices are of. State: the newest one seen, soft."""

    def __init__(self) -> None:
        self._newest: Number | None = None

    def take(self, data_version: str) -> Literal["same", "new", "over"]:
        """Return whether data are of the run before, of a new one, or of one that is over.

        The first run that is seen, and data of no run, are `same`.
        """
        number, newest = run_number(data_version), self._newest
        if number is None or number == newest:
            return "same"
        if newest is not None and number < newest:
            return "over"
        self._newest = number
        return "same" if newest is None else "new"
