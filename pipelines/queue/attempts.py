"""Attempts: handed to processes, awaited, stopped where they must be, and made again."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from infra.clock import Clock
from infra.db.tasks import CANCELLED, COMPLETED, FAILED
from infra.errors import StoreError
from infra.metrics import TASK_SECONDS
from pipelines.codec import JSON
from pipelines.queue.core import Entry
from pipelines.queue.live import LiveTasks
from pipelines.queue.results import INLINE_BYTES
from pipelines.worker.attempt import Attempt, Died, Ended, Runner
from pipelines.worker.bounds import (
    ERROR_CHARS,
    MESSAGE_CHARS,
    bounded,
    bounded_s,
    moment_s,
    pct,
    plain_text,
)

FORCE_AFTER_S = 0.4
_AHEAD = 64  # short tasks noted as started before there is room for them
_CANCEL = "cancel: "


class Attempts:
    """What runs now. State: soft; an attempt whose queue ended is one of the lost ones.

    `keep` runs a coroutine for as long as this process may live; `death_pause_s` passes before a
    death counts as the task's, not the node's.
    """

    def __init__(
        self,
        live: LiveTasks,
        runner: Runner,
        keep: Callable[[Coroutine[Any, Any, None]], None],
        clock: Clock,
        death_pause_s: float,
    ) -> None:
        self._live = live
        self._backlog = live.backlog
        self._slots = live.slots
        self._runner = runner
        self._keep = keep
        self._clock = clock
        self._death_pause_s = death_pause_s
        self._refs: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self._refs)

    def claims(self) -> list[Entry]:
        """Return what is to be noted as started, so that all slots are busy."""
        if not self._live.is_running:
            return []
        claimed = self._backlog.stages["claimed"]
        room = self._slots.limit + self._slots.ahead(_AHEAD) - claimed - len(self._refs)
        found = self._backlog.claim(max(0, room), self._live.now_s())
        return found + self._backlog.claim_urgent(self._slots.limit - len(found))

    def hand_out(self) -> None:
        """Begin attempts of what is noted as started, while there are slots."""
        while self._live.is_running and len(self._refs) < self._slots.limit:
            entry = self._backlog.next_to_run()
            if entry is None:
                return
            arguments = entry.arguments or b'{"args":[],"kwargs":{}}'
            if entry.code is None:  # else they are nowhere but here
                self._live.release_arguments(entry)
            tell_at_once = entry.timeout_s is not None or not self._slots.is_quick
            attempt = Attempt(
                entry.id, entry.tries, entry.name, entry.target, arguments, entry.previous,
                tell_at_once, entry.code,
            )  # fmt: skip
            self._refs[entry.id] = ref = self._runner.start(attempt)
            self._keep(self._await(entry, ref))

    async def note(
        self, task_id: str, attempt: int, started_s: float, worker: str, progress: float,
        message: str,
    ) -> None:  # fmt: skip
        """Take from a running task that it runs, and how far it is."""
        entry = self._backlog.get(task_id)
        if entry is None or entry.stage != "running" or entry.tries != attempt:
            return
        entry.started_s, entry.worker = moment_s(started_s), worker
        entry.progress, entry.message = pct(progress), plain_text(message, MESSAGE_CHARS)
        self._slots.began(worker, task_id, entry.started_s)
        self._live.publish(entry)

    # -- ends -------------------------------------------------------------------------------

    async def _await(self, entry: Entry, ref: Any) -> None:
        try:
            ended = await self._runner.ended(ref)
        except Died as error:
            self._refs.pop(entry.id, None)
            await self._on_death(entry, error)
        else:
            self._refs.pop(entry.id, None)
            self.hand_out()  # from what is noted already; the outcome is written beside
            await self._on_end(entry, bounded(ended))
        self._live.has_work.set()

    async def _on_end(self, entry: Entry, ended: Ended) -> None:
        took_s = ended.finished_s - ended.started_s
        self._slots.ended(ended.worker, ended.finished_s, took_s, ended.error_code is None)
        TASK_SECONDS.labels(entry.name).observe(took_s)
        entry.started_s, entry.worker = ended.started_s, ended.worker
        entry.progress = ended.progress
        if ended.error_code is None:
            await self._completed(entry, ended)
        elif entry.ending is not None:
            self._stopped(entry)
        else:
            self._failed(entry, ended.error_code, ended.error, ended.is_retryable, ended.after_s)

    async def _completed(self, entry: Entry, ended: Ended) -> None:
        size = len(ended.data)
        if ended.kind == JSON and size <= INLINE_BYTES:
            self._live.end(entry, COMPLETED, result=ended.data, size=size)
            return
        try:
            name = await self._live.results.file(entry.id, ended.kind, ended.data)
        except StoreError as error:
            self._failed(entry, "result_unwritten", f"its result's file: {error.message}")
            return
        self._live.end(entry, COMPLETED, file=name, size=size)

    async def _on_death(self, entry: Entry, error: Died) -> None:
        self._slots.died(entry.worker)
        if entry.ending is not None:
            self._stopped(entry)
            return
        self.hand_out()
        await self._clock.sleep(self._death_pause_s)  # this process ends too if the node did
        self._failed(entry, "worker_died", f"its process died: {error}")

    def _stopped(self, entry: Entry) -> None:
        """Note the end of what was stopped on purpose."""
        why, entry.ending = entry.ending, None
        if why == "timeout":
            self._failed(entry, "task_timeout", f"stopped after {entry.timeout_s:g} s")
        elif why == "drain":
            entry.losses += 1
            self._live.rerun(entry, self._live.now_s(), "the service stopped")
        else:
            self._live.end(entry, CANCELLED, "cancelled", (why or "").removeprefix(_CANCEL))

    def _failed(
        self,
        entry: Entry,
        code: str,
        error: str,
        is_retryable: bool = True,
        after_s: float | None = None,
    ) -> None:
        error = plain_text(error, ERROR_CHARS)
        if not is_retryable or entry.tries - entry.losses > entry.max_retries:
            self._live.end(entry, FAILED, code, error)
            return
        asked_s = bounded_s(after_s)
        pause_s = self._backlog.pause_s(entry) if asked_s is None else asked_s
        self._live.rerun(entry, self._live.now_s() + pause_s, error)

    # -- stopping ---------------------------------------------------------------------------

    async def cancel(self, task_id: str, reason: str) -> dict[str, Any]:
        """Cancel a task, its children and what waits for it."""
        await self._live.loaded()
        entry = self._backlog.get(task_id)
        ending = self._live.ending.get(task_id)
        if entry is None or ending is not None:
            state = await self._live.results.state(task_id) if ending is None else ending.state
            return {"cancelled": False, "status": state}
        self._cancel(entry, reason)
        self._live.has_work.set()
        return {"cancelled": True, "status": entry.state}

    def _cancel(self, entry: Entry, reason: str) -> None:
        if entry.id in self._live.ending:
            return
        if entry.id in self._refs:
            self._stop(entry, _CANCEL + reason)
        else:
            self._live.end(entry, CANCELLED, "cancelled", reason)
        for child in self._backlog.children(entry.id):
            self._cancel(child, f"its parent was cancelled: {reason}")

    def stop_overdue(self) -> None:
        """Stop what runs longer than it may."""
        now_s = self._live.now_s()
        for entry in self._running():
            if entry.timeout_s is None or entry.started_s is None or entry.ending is not None:
                continue
            if now_s - entry.started_s > entry.timeout_s:
                self._stop(entry, "timeout")

    def stop_all(self) -> int:
        """Stop what runs, to run again at the next start; return how many those are."""
        running = self._running()
        for entry in running:
            self._stop(entry, "drain")
        return len(running)

    def _running(self) -> list[Entry]:
        return [e for i in self._refs if (e := self._backlog.get(i)) is not None]

    def _stop(self, entry: Entry, why: str) -> None:
        """Stop what runs, once; of the reasons the first counts, and who cancels before others."""
        if (ref := self._refs.get(entry.id)) is None:
            return
        former, is_cancel = entry.ending, why.startswith(_CANCEL)
        if former is None or (is_cancel and not former.startswith(_CANCEL)):
            entry.ending = why
        if former is None:
            self._keep(self._interrupt(entry, ref))

    async def _interrupt(self, entry: Entry, ref: Any) -> None:
        """Interrupt a task; end its process where that does not help, as in C code."""
        for force in (False, True):
            if self._refs.get(entry.id) is not ref:
                return
            await self._runner.stop(ref, force)
            await self._clock.sleep(FORCE_AFTER_S)
        if self._refs.get(entry.id) is ref and entry.worker is not None:
            self._runner.kill(entry.worker)
