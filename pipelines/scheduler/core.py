"""Which job is due, which runs, what came of the last run; time is given, nothing runs here."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError

from infra.clock import utc
from infra.errors import JobUnknown
from infra.files import read_whole
from infra.near_names import near_names
from pipelines.jobs.spec import JobSpec, Outcome

Reason = Literal["schedule", "missed", "asked"]

_MESSAGE_CHARS = 500
_LATE_S = 2.0  # later than this a time counts as missed


@dataclass(slots=True)
class JobState:
    """What is known of a job's runs; times are Unix seconds."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    paused: bool = False
    last_due_s: float | None = None
    last_started_s: float | None = None
    last_finished_s: float | None = None
    last_duration_s: float | None = None
    last_outcome: Outcome | None = None
    last_message: str = ""
    runs: int = 0
    failures: int = 0
    skipped: int = 0
    running: str | None = None


_STATES = TypeAdapter(dict[str, JobState])


@dataclass(frozen=True, slots=True)
class Due:
    """A run that must start now."""

    name: str
    run_id: str
    reason: Reason


@dataclass(slots=True)
class _Job:
    spec: JobSpec
    state: JobState = field(default_factory=JobState)
    next_s: float = 0.0


def read_schedule(file: Path) -> bytes | None:
    """Return a schedule that was saved, None if none was; raises ConfigError for a damaged one."""
    mend = "put a backup in its place, or remove it and pause jobs anew"
    return read_whole(file, _checked, mend)


def _checked(saved: bytes) -> bytes:
    Schedule([], 0.0, saved)
    return saved


def _new_id() -> str:
    return uuid.uuid4().hex


class Schedule:
    """The jobs of one scheduler. Several missed times of a job are one run; two runs never meet.

    `saved` is what `save` gave before a restart: a job that ran then is lost, and is made up for
    within its grace. A job that never ran waits for its next time. Raises ValueError for `saved`
    that is damaged; every method with a name raises JobUnknown.
    """

    def __init__(
        self,
        specs: Iterable[JobSpec],
        now_s: float,
        saved: bytes | None = None,
        new_id: Callable[[], str] = _new_id,
    ) -> None:
        self._jobs = {spec.name: _Job(spec) for spec in specs}
        self._new_id = new_id
        if saved is not None:
            self._restore(saved)
        for job in self._jobs.values():
            job.next_s = self._first_due_s(job, now_s)

    def _restore(self, saved: bytes) -> None:
        try:
            states = _STATES.validate_json(saved, strict=True)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"])) or "all of it"
            raise ValueError(f"{where}: {problem['msg']}") from None
        for name, state in states.items():
            if name not in self._jobs:
                continue
            if state.running is not None:
                state.running, state.last_outcome = None, "lost"
                state.last_message = "the scheduler ended while it ran"
                state.last_due_s = None if state.last_due_s is None else state.last_due_s - 1
                state.failures += 1
            self._jobs[name].state = state

    def _first_due_s(self, job: _Job, now_s: float) -> float:
        """Return the time that was missed, if it is made up for, else the next one."""
        trigger, last_s = job.spec.trigger, job.state.last_due_s
        if last_s is not None and last_s <= now_s:
            missed_s = trigger.next_after(max(last_s, now_s - job.spec.grace_s - 1))
            if missed_s <= now_s:
                return missed_s
        return _next_s(job, now_s)

    # -- time -------------------------------------------------------------------------------

    def due(self, now_s: float, market_open: bool = True) -> list[Due]:
        """Return what must start now, the latest due last; it counts as running from here on."""
        found = []
        for job in sorted(self._jobs.values(), key=lambda job: job.next_s):
            job.next_s = min(job.next_s, _next_s(job, now_s))
            if job.next_s > now_s:
                continue
            due_s = _last_come_s(job, now_s)
            job.state.last_due_s = due_s
            job.next_s = _next_s(job, now_s)
            if job.state.paused or (job.spec.market_hours and not market_open):
                continue
            if now_s - due_s > job.spec.grace_s or job.state.running is not None:
                job.state.skipped += 1
                continue
            found.append(self._start(job, now_s, _reason(now_s - due_s)))
        return found

    def next_due_s(self, now_s: float) -> float:
        """Return when to look again, Unix seconds; earlier than before if the clock went back."""
        for job in self._jobs.values():
            job.next_s = min(job.next_s, _next_s(job, now_s))
        return min((job.next_s for job in self._jobs.values()), default=float("inf"))

    def overdue(self, now_s: float) -> list[tuple[str, str]]:
        """Return name and run id of what runs longer than it may: to end, and tell `finished`."""
        found = []
        for job in self._jobs.values():
            state = job.state
            if state.running is None:
                continue
            # After the clock was put back the run counts from then: late is better than never.
            started_s = min(state.last_started_s or now_s, now_s)
            state.last_started_s = started_s
            if now_s - started_s > job.spec.timeout_s:
                found.append((job.spec.name, state.running))
        return found

    def finished(
        self, name: str, run_id: str, now_s: float, outcome: Outcome, message: str
    ) -> bool:
        """Note the end of a run; False if it is not the one that runs, as after a timeout."""
        state = self._job(name).state
        if state.running != run_id:
            return False
        state.running = None
        state.last_finished_s = now_s
        state.last_duration_s = max(0.0, now_s - (state.last_started_s or now_s))
        state.last_outcome = outcome
        state.last_message = message[:_MESSAGE_CHARS]
        state.failures += outcome != "ok"
        return True

    # -- people -----------------------------------------------------------------------------

    def run_now(self, name: str, now_s: float) -> Due | None:
        """Return the run that somebody asked for, also of a paused job; None while it runs."""
        job = self._job(name)
        return None if job.state.running is not None else self._start(job, now_s, "asked")

    def pause(self, name: str) -> None:
        """Let no time of a job count until it is resumed; a run under way goes on."""
        self._job(name).state.paused = True

    def resume(self, name: str, now_s: float) -> None:
        """Let a job run again from its next time on."""
        job = self._job(name)
        job.state.paused = False
        job.state.last_due_s = max(job.state.last_due_s or 0.0, now_s)
        job.next_s = job.spec.trigger.next_after(now_s)

    @contextmanager
    def undone_on_error(self, name: str) -> Iterator[None]:
        """Let a job be as before where the block raises, as when a change cannot be saved."""
        job = self._job(name)
        state, next_s = replace(job.state), job.next_s
        try:
            yield
        except BaseException:
            job.state, job.next_s = state, next_s
            raise

    def spec(self, name: str) -> JobSpec:
        """Return what a job is."""
        return self._job(name).spec

    def rows(self) -> list[dict[str, Any]]:
        """Return all jobs for people, times as ISO in UTC."""
        return [_row(job) for job in self._jobs.values()]

    def save(self) -> bytes:
        """Return all that must outlive the scheduler, as JSON."""
        return orjson.dumps({name: asdict(job.state) for name, job in self._jobs.items()})

    def _start(self, job: _Job, now_s: float, reason: Reason) -> Due:
        run_id = self._new_id()
        job.state.running = run_id
        job.state.last_started_s = now_s
        job.state.runs += 1
        return Due(job.spec.name, run_id, reason)

    def _job(self, name: str) -> _Job:
        found = self._jobs.get(name)
        if found is None:
            raise JobUnknown(name, near_names(name, self._jobs), sorted(self._jobs))
        return found


def _next_s(job: _Job, now_s: float) -> float:
    """Return the first time after now that was not had before the clock was put back."""
    trigger, last_s = job.spec.trigger, job.state.last_due_s
    next_s = trigger.next_after(now_s)
    period_s = trigger.next_after(next_s) - next_s
    if last_s is not None and next_s <= last_s <= now_s + period_s:
        return trigger.next_after(last_s)
    return next_s


def _last_come_s(job: _Job, now_s: float) -> float:
    """Return the latest time that came by now; those before it are made up for with it."""
    come_s = job.next_s
    at_s = max(come_s, now_s - job.spec.grace_s - 1)
    while (next_s := job.spec.trigger.next_after(at_s)) <= now_s:
        come_s = at_s = next_s
    return come_s


def _reason(late_s: float) -> Reason:
    return "missed" if late_s > _LATE_S else "schedule"


def _row(job: _Job) -> dict[str, Any]:
    spec, state = job.spec, job.state
    return {
        "name": spec.name,
        "title": spec.title,
        "schedule": spec.trigger.text + (", in market hours" if spec.market_hours else ""),
        "paused": state.paused,
        "running": state.running is not None,
        "run_id": state.running,
        "next_run_at": None if state.paused else _iso(job.next_s),
        "last_run_at": _iso(state.last_started_s),
        "last_finished_at": _iso(state.last_finished_s),
        "last_duration_seconds": state.last_duration_s,
        "last_outcome": state.last_outcome,
        "last_message": state.last_message,
        "runs": state.runs,
        "failures": state.failures,
        "skipped": state.skipped,
        "timeout_seconds": spec.timeout_s,
        "misfire_policy": f"a missed time is made up for within {spec.grace_s:g} s, once",
    }


def _iso(at_s: float | None) -> str | None:
    return None if at_s is None else utc(at_s).isoformat(timespec="milliseconds")
