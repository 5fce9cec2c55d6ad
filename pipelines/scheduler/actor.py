"""The scheduler as an actor: starts jobs as Ray tasks, and keeps the store's tables there."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections import deque
from typing import Any

import ray

from actors.feed.client import FeedClient
from actors.reporting import report_metrics
from actors.runtime import ServiceActor, brought, exposed
from actors.telemetry.client import TelemetryClient
from infra.calendars import calendar_for
from infra.clock import SystemClock
from infra.db.store import open_store
from infra.db.watch import StoreReport
from infra.errors import ActorUnavailable, JobRunning, StoreError, StoreFull
from infra.files import of_store, write_atomically
from infra.metrics import JOB_RUNS, JOB_SECONDS
from infra.settings import Settings
from infra.sources.facts import source_facts
from pipelines.jobs.registry import all_jobs
from pipelines.jobs.run import run_job
from pipelines.jobs.spec import Outcome
from pipelines.scheduler.client import StoreState, Trouble, trouble_of
from pipelines.scheduler.core import Due, Schedule, read_schedule

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.5
_STORE_EVERY_S = 2.0
_PROBE_EVERY_S = 20.0
LEAST_FREE_BYTES = 8 * 2**20
_MARKET_FRESH_S = 30.0
_REPORTS_KEPT = 500


class SchedulerActor(ServiceActor):
    """One for the whole cluster, however many nodes.

    State: pauses, last runs and counts are hard (a file, written at each change); a run under way
    when the process ends is told as lost and made up for. Jobs run at least once for each time
    within their grace, and never two of one job at once: the run before is cancelled where it
    is over its time. The store is looked after here: its tables are brought to this version as
    soon as it answers, and every two seconds it is asked whether it still does.
    """

    role = "scheduler"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._clock = SystemClock()
        self._file = settings.data_dir / "scheduler.json"
        specs = [job.spec for job in all_jobs().values()]
        self._schedule = Schedule(specs, self._clock.time_s(), read_schedule(self._file))
        self._store = open_store(settings, self._clock)
        self._state = StoreState("away", "not asked yet", self._clock.time_s())
        self._probed_s = float("-inf")
        self._facts = source_facts(settings)
        self._feed = FeedClient(settings.actor_wait_s)
        self._market = (True, 0.0)
        self._refs: dict[str, Any] = {}
        self._reports: deque[StoreReport] = deque(maxlen=_REPORTS_KEPT)
        self._run_job = ray.remote(run_job)
        self.keep(self._look_after_store())
        self.keep(self._run())
        self.keep(report_metrics(self.process, TelemetryClient()))

    # -- jobs -------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            now_s = self._clock.time_s()
            if self._schedule.next_due_s(now_s) <= now_s:
                for due in self._schedule.due(now_s, await self._market_open(now_s)):
                    self._start(due)
                self._save()
            for name, run_id in self._schedule.overdue(now_s):
                await self._cut(name, run_id)
            await self._clock.sleep(_LOOK_EVERY_S)

    async def _market_open(self, now_s: float) -> bool:
        """Return whether a monitored symbol trades now; made markets always do."""
        if self._facts.synthetic:
            return True
        is_open, asked_s = self._market
        if now_s - asked_s < _MARKET_FRESH_S:
            return is_open
        try:
            symbols = await self._feed.monitored()
        except ActorUnavailable:
            return is_open
        at_ns = int(now_s * 1e9)
        is_open = any(calendar_for(symbol).status(at_ns) == "open" for symbol in symbols)
        self._market = is_open, now_s
        return is_open

    def _start(self, due: Due) -> None:
        logger.info("job.started", extra={"job": due.name, "why": due.reason})
        run = self._run_job.options(name=f"job {due.name}", num_cpus=1, max_retries=0)
        ref = run.remote(self.settings, due.name, due.run_id)
        self._refs[due.run_id] = ref
        self.keep(self._await(due, ref))

    async def _await(self, due: Due, ref: Any) -> None:
        ended, error = await brought(ref)
        self._refs.pop(due.run_id, None)
        if error is not None:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            self._note_end(due.name, due.run_id, "lost", f"its process ended: {reason}")
            return
        self._reports.append(ended.report)
        self._note_end(due.name, due.run_id, ended.outcome, ended.message)

    async def _cut(self, name: str, run_id: str) -> None:
        timeout_s = self._schedule.spec(name).timeout_s
        logger.warning("job.cut", extra={"job": name, "timeout_s": timeout_s})
        if (ref := self._refs.get(run_id)) is not None:
            await asyncio.to_thread(ray.cancel, ref, force=True)
        self._note_end(name, run_id, "timeout", f"cut after {timeout_s:g} s")

    def _note_end(self, name: str, run_id: str, outcome: Outcome, message: str) -> None:
        if self._schedule.finished(name, run_id, self._clock.time_s(), outcome, message):
            (row,) = (row for row in self._schedule.rows() if row["name"] == name)
            JOB_RUNS.labels(name, outcome).inc()
            JOB_SECONDS.labels(name).observe(row["last_duration_seconds"])
            self._save()

    def _save(self) -> None:
        try:
            self._write()
        except StoreError as error:  # a full disk must not stop the jobs that make room
            logger.warning("scheduler.unsaved", extra={"reason": error.message})

    def _write(self) -> None:
        try:
            write_atomically(self._file, self._schedule.save())
        except StoreError as error:
            self._note_store(trouble_of(error), error.message)
            raise

    # -- the store --------------------------------------------------------------------------

    async def _look_after_store(self) -> None:
        is_migrated = False
        while True:
            try:
                if not is_migrated:
                    await self._store.migrate()
                    is_migrated = True
                await self._store.ping()
                await self._see_room()
                await self._store.keep_slow_queries(self.process)
                self._note_store("", self._store.dialect)
            except StoreError as error:
                self._note_store(trouble_of(error), error.message)
            await self._clock.sleep(_STORE_EVERY_S)

    async def _see_room(self) -> None:
        """Write a little, now and then and always while it fails: raises StoreFull, StoreError."""
        now_s = self._clock.monotonic_s()
        if self._state.trouble or now_s - self._probed_s > _PROBE_EVERY_S:
            self._probed_s = now_s
            await self._store.probe()
            self._write()
        with of_store(self.settings.data_dir):
            free = shutil.disk_usage(self.settings.data_dir).free
        if free < LEAST_FREE_BYTES:
            raise StoreFull(f"the disk of the data directory has only {free // 2**10} KiB free")

    def _note_store(self, trouble: Trouble, detail: str) -> None:
        before = self._state
        if trouble != before.trouble:
            log = logger.warning if trouble else logger.info
            log(f"store.{trouble or 'found'}", extra={"detail": detail})
            self._state = StoreState(trouble, detail, self._clock.time_s())
        elif detail != before.detail:
            self._state = StoreState(trouble, detail, before.since_s)

    # -- what others ask --------------------------------------------------------------------

    @exposed
    async def jobs(self) -> list[dict[str, Any]]:
        """Return all jobs with their next and last runs."""
        return self._schedule.rows()

    @exposed(once=True)
    async def run_now(self, name: str) -> str:
        """Start a job now, paused or not; raises JobUnknown, JobRunning."""
        due = self._schedule.run_now(name, self._clock.time_s())
        if due is None:
            raise JobRunning(name)
        self._start(due)
        self._save()
        return due.run_id

    @exposed
    async def pause(self, name: str) -> None:
        """Let a job rest; on disk before this returns, else StoreError and nothing changed."""
        with self._schedule.undone_on_error(name):
            self._schedule.pause(name)
            self._write()

    @exposed
    async def resume(self, name: str) -> None:
        """Let a job run at its times again; on disk before this returns, as `pause`."""
        with self._schedule.undone_on_error(name):
            self._schedule.resume(name, self._clock.time_s())
            self._write()

    @exposed
    async def store_state(self) -> StoreState:
        """Return whether the store answers."""
        return self._state

    @exposed
    async def store_reports(self) -> list[StoreReport]:
        """Return what queries cost here and in the last 500 runs."""
        return [self._store.report(self.process), *self._reports]

    @exposed
    async def reset_store_reports(self) -> str:
        """Count queries from zero, those of jobs too; return this process's name."""
        self._store.watch.reset()
        self._reports.clear()
        return self.process
