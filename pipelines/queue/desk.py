"""Accepts tasks into the store, hands them out, notes what came of them."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import socket
import uuid
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from infra.clock import Clock, utc
from infra.db.store import BATCH, Store
from infra.db.tasks import CANCELLED, COMPLETED, FAILED, Outcome, StoredTask
from infra.db.unit import Unit
from infra.directives import following
from infra.errors import (
    StoreError,
    StoreRefused,
    TaskIdUnknown,
    TaskNotRequeued,
    TaskQueueFull,
    TaskQueueStopped,
)
from infra.metrics import TASK_SECONDS, TASKS_ENDED, TASKS_WAITING
from infra.settings import Settings
from pipelines.codec import JSON
from pipelines.queue.client import Result, packed_results
from pipelines.queue.core import Entry, TaskBook
from pipelines.queue.crew import Crew
from pipelines.queue.graphs import previous_of, verdict
from pipelines.queue.intake import Batch, Intake
from pipelines.queue.ledger import Again, Changes, Ledger
from pipelines.queue.news import News
from pipelines.queue.records import anew, entry_of, refused, split_large, stored_task
from pipelines.queue.results import INLINE_BYTES, ResultShelf
from pipelines.queue.shown import ended_shown, entry_shown, task_shown
from pipelines.queue.waiting import Waiters
from pipelines.submission import Submission, unpacked_submissions
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

logger = logging.getLogger(__name__)

MOST_LOSSES = 10  # tries that ended with the queue or its node, before a task counts as poison
_WATCH_EVERY_S = 0.1
_STORE_PAUSE_S = 0.5
_PURGE_EVERY_S = 600.0
_FORCE_AFTER_S = 0.4
_UNSURE_AT_ONCE = 500  # asked for in one statement
_AHEAD = 64  # short tasks noted as started before there is room for them
_ARGUMENT_BYTES = 16 * 2**20  # of waiting tasks, in memory; the rest is read when they start
_ANSWER_BYTES = 16 * 2**20
_LOADING_S = 4.0
_CANCEL = "cancel: "
_SLOTS_EVERY_S = 5.0
_COLLECT_S = 0.02
_REQUEUE_PAUSE_S = 2.0  # two clicks, or requests sent together, are one wish
_DEATH_PAUSE_S = 1.0  # before a death counts as the task's, not the node's
_YOUNG_S = 120.0


class TaskDesk:
    """Background work of one queue.

    State: hard, in the store. A task is there before its caller has the id; that a try begins is
    written before it runs; its outcome is written before anybody is told. So each task runs at
    least once, whatever is killed, and ends once. While the store is away nothing is accepted or
    started; what runs goes on, and its outcome waits here.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        crew: Crew,
        runner: Runner,
        news: News,
        keep: Callable[[Coroutine[Any, Any, None]], None],
        process: str,
        clock: Clock,
        draws: random.Random | None = None,
        death_pause_s: float = _DEATH_PAUSE_S,
    ) -> None:
        self.settings = settings
        self.process = process
        self.keep = keep  # runs a coroutine for as long as this process may live
        self._clock = clock
        self._death_pause_s = death_pause_s
        self._store = store
        self._runner = runner
        holder = f"{socket.gethostname()}:{settings.data_dir}"
        self._ledger = Ledger(store, settings.task_queue, holder, str(uuid.uuid4()), clock)
        self._book = TaskBook(settings.task_ageing_s, draws)
        self._shelf = ResultShelf(settings.data_dir / "results")
        self._news = news
        self._crew = crew
        self._waiters = Waiters()
        self._changes = Changes()
        self._intake = Intake()
        self._over: dict[str, Outcome] = {}  # what ended, until that is in the store
        self._unsure: dict[str, None] = {}  # refused to their callers, but perhaps in the store
        self._freed: list[Entry] = []
        self._refs: dict[str, Any] = {}
        self._work = asyncio.Event()
        self._requeues = asyncio.Lock()
        self._requeued_s: dict[str, float] = {}  # those of the last moment, in order
        self._standby = "the queue is loading"
        self._is_loaded = asyncio.Event()
        self._runs = True
        self._seq = 0
        self._began_s = clock.monotonic_s()
        self._argument_bytes = 0

    @property
    def unfinished(self) -> int:
        """Return how many tasks have not ended, as far as is known."""
        return len(self._book) + len(self._intake) + (not self._is_loaded.is_set())

    async def run(self) -> None:
        """Never return; raises TaskQueueStopped once another process took the queue over."""
        await self._begin()
        while True:
            self._work.clear()
            await self._decide()
            await self._adopt()
            if not await self._step():
                await self._pause()
            elif self._book.stages["claimed"] > self._crew.limit and not self._intake.is_awaited:
                await self._clock.sleep(_COLLECT_S)  # there is work for longer than this

    # -- the loop ---------------------------------------------------------------------------

    async def _begin(self) -> None:
        while True:
            try:
                held = await self._ledger.take_over()
                if held is None:
                    break
                self._standby = (
                    f"the queue {self.settings.task_queue!r} is run by {held.holder}: "
                    "set FINSTAGE_TASK_QUEUE to another name"
                )
            except StoreError as error:
                self._standby = error.message
            await self._clock.sleep(_STORE_PAUSE_S)
        while True:
            try:
                stored, self._seq = await self._ledger.load()
                break
            except StoreError as error:
                self._standby = error.message
                await self._clock.sleep(_STORE_PAUSE_S)
        for task in stored:
            self._restore(task)
        self._standby = ""
        self._is_loaded.set()
        logger.info("tasks.loaded", extra={"unfinished": len(stored)})

    def _restore(self, task: StoredTask) -> None:
        entry = entry_of(task)
        self._add(entry)
        if task.state == "running":
            self._lost(entry)

    def _add(self, entry: Entry) -> None:
        """Take a task into the book; one that has begun once waits for no other."""
        if entry.id in self._book:
            return
        needs = None if entry.tries else entry.needs
        self._book.add(entry, self._clock.time_s(), needs.on if needs else ())
        if needs is not None and entry.waits_for == 0:
            self._book.hold(entry)
            self._freed.append(entry)

    async def _pause(self) -> None:
        due_s = self._book.wake(self._clock.time_s()) - self._clock.time_s()
        try:
            async with asyncio.timeout(min(1.0, max(0.01, due_s))):
                await self._work.wait()
        except TimeoutError:
            return

    async def _step(self) -> bool:
        """Write what changed and what starts; return whether there was anything."""
        changes, self._changes = self._changes, Changes()
        split_large(changes, self._changes)
        batch, claims = self._intake.take(), self._claims()
        changes.starts = [(entry.tries + 1, entry.id) for entry in claims if entry.code is None]
        changes.unknown = [e.id for e in claims if e.arguments is None and e.code is None]
        if not (changes or claims or batch.entries or batch.futures):
            return False
        try:
            found = await self._ledger.write(changes) if changes else {}
            await self._load_previous(claims)
        except TaskQueueStopped:
            raise  # this process ends, and its successor waits until the queue is free
        except StoreError as error:
            self._put_back(changes, claims, error)
            self._refuse(batch, error, changes.was_begun)
            await self._clock.sleep(_STORE_PAUSE_S)
            return True
        for entry in claims:
            entry.tries += 1
            if self._is_over(entry):
                continue
            self._keep_arguments(entry, found.get(entry.id))
            if entry.arguments is None:
                self._end(entry, FAILED, "gone", "the store has it no more")
        self._admit(batch)
        for outcome in changes.outcomes:
            self._settle(outcome)
        self._book.noted(claims)
        self._hand_out()
        return True

    def _claims(self) -> list[Entry]:
        if not self._runs:
            return []
        stages = self._book.stages
        room = self._crew.limit + self._crew.ahead(_AHEAD) - stages["claimed"] - len(self._refs)
        found = self._book.claim(max(0, room), self._clock.time_s())
        return found + self._book.claim_urgent(self._crew.limit - len(found))

    def _put_back(self, changes: Changes, claims: Sequence[Entry], error: StoreError) -> None:
        """Keep for later what the store did not take."""
        logger.warning("tasks.unwritten", extra={"reason": error.message})
        self._book.unclaim(claims, self._clock.time_s())
        if isinstance(error, StoreRefused) and not changes.new:
            changes.outcomes = [refused(one, error) for one in changes.outcomes]
        later = self._changes
        later.outcomes = changes.outcomes + later.outcomes
        later.again = changes.again + later.again
        later.hooked |= changes.hooked

    def _refuse(self, batch: Batch, error: StoreError, is_unsure: bool) -> None:
        for entry, one in batch.entries:
            self._let_arguments_go(entry)
            if is_unsure and one.is_durable:
                self._unsure[entry.id] = None
        self._intake.refused(batch, error)

    async def _adopt(self) -> None:
        """Take those that were refused though the store has them: its answer was lost."""
        queue = self.settings.task_queue
        while ids := list(islice(self._unsure, _UNSURE_AT_ONCE)):
            for task_id in ids:  # before the look, as one may be refused once more meanwhile
                del self._unsure[task_id]
            try:
                found = await self._store.write(  # after what may still be writing them
                    lambda unit, ids=ids: unit.tasks.unfinished(queue, ids),  # type: ignore[misc]
                    limit=BATCH,
                )
            except StoreError as error:
                logger.info("tasks.unsure", extra={"reason": error.code})
                self._unsure |= dict.fromkeys(ids)
                return
            for task in found:
                if task.id in self._book or self._intake.is_pending(task.id):
                    continue
                same = self._of_key(task.unique_key)
                if same is None:
                    self._restore(task)
                else:  # without the key, which is the other's
                    self._restore(replace(task, unique_key=None))
                    self._leave_to(same, task.id)

    # -- in ---------------------------------------------------------------------------------

    async def submit(self, text: bytes) -> list[str]:
        """Accept packed submissions; return their ids once they are in the store."""
        await self._loaded()
        submissions = unpacked_submissions(text)
        there = len(self._book) + len(self._intake) + len(self._unsure)
        if there + len(submissions) > self.settings.max_tasks:
            raise TaskQueueFull(self.settings.max_tasks, 5.0)
        known, keys = await self._known(submissions)
        ids, now_s = [], self._clock.time_s()
        made = [self._made(one, now_s) for one in submissions]  # all, or the call fails
        for one, (stored, entry) in zip(submissions, made, strict=True):
            same = one.id if one.id in known else self._same(one, keys)
            if same is None:
                self._take(one, stored, entry)
            ids.append(same or one.id)
        if any(self._intake.is_pending(task_id) for task_id in ids):
            self._work.set()
            await self._intake.written()
        return ids

    async def _loaded(self) -> None:
        """Wait a moment for a queue that begins; raises TaskQueueStopped."""
        try:
            async with asyncio.timeout(_LOADING_S):
                await self._is_loaded.wait()
        except TimeoutError:
            raise TaskQueueStopped(self._standby) from None

    async def _known(self, submissions: Sequence[Submission]) -> tuple[set[str], dict[str, str]]:
        """Return which ids and idempotency keys the store has.

        Ids are looked up only after a start: then a call may come again that its predecessor
        had answered, though nobody heard.
        """
        queue = self.settings.task_queue
        keys = [s.idempotency_key for s in submissions if s.idempotency_key is not None]
        is_young = self._clock.monotonic_s() - self._began_s < _YOUNG_S
        if not keys and not is_young:
            return set(), {}
        ids = [one.id for one in submissions] if is_young else []

        async def work(unit: Unit) -> tuple[set[str], dict[str, str]]:
            return set(await unit.tasks.states(ids)), await unit.tasks.of_keys(queue, keys)

        return await self._store.read(work)

    def _same(self, one: Submission, stored_keys: dict[str, str]) -> str | None:
        """Return the task that is the same work as this one, if there is one."""
        if one.id in self._book or self._shelf.recent(one.id) is not None:
            return one.id  # the call came twice
        return self._intake.same(one, stored_keys) or self._of_key(one.unique_key)

    def _of_key(self, unique_key: str | None) -> str | None:
        """Return the task that has this key, on its way or accepted, and has not ended."""
        if unique_key is None:
            return None
        return self._intake.of_key(unique_key) or self._book.of_key(unique_key)

    def _leave_to(self, same: str, task_id: str) -> None:
        """End a task that came back while another was accepted as the same work."""
        if (entry := self._book.get(task_id)) is not None:
            self._end(entry, CANCELLED, "same_work", f"task {same} is the same work")

    def _made(self, one: Submission, now_s: float) -> tuple[StoredTask, Entry]:
        self._seq += 1
        stored = stored_task(one, self.settings.task_queue, self._seq, now_s)
        return stored, entry_of(stored)

    def _take(self, one: Submission, stored: StoredTask, entry: Entry) -> None:
        entry.code = one.code
        self._keep_arguments(entry, one.arguments)
        self._intake.add(entry, one)
        if one.is_durable:
            self._changes.new.append(stored)

    def _keep_arguments(self, entry: Entry, arguments: str | None) -> None:
        """Keep arguments in memory, while there is room for them."""
        if arguments is None:
            return
        is_near = entry.stage == "claimed" or entry.code is not None
        if is_near or self._argument_bytes + len(arguments) <= _ARGUMENT_BYTES:
            entry.arguments = arguments.encode()
            self._argument_bytes += len(entry.arguments)

    def _let_arguments_go(self, entry: Entry) -> None:
        self._argument_bytes -= len(entry.arguments or b"")
        entry.arguments = None

    def _admit(self, batch: Batch) -> None:
        for entry, _ in batch.entries:
            self._add(entry)
            self._news.task(entry.id, partial(entry_shown, entry))
        self._intake.accepted(batch)
        if batch.entries:
            self._work.set()

    # -- tasks that wait for others ---------------------------------------------------------

    async def _decide(self) -> None:
        """Let those go on whose predecessors ended, or end them too."""
        freed, self._freed = self._freed, []
        for entry in freed:
            if entry.stage != "blocked" or entry.id in self._over:
                continue
            assert entry.needs is not None
            try:
                outcomes = await self._outcomes(entry.needs.on)
            except StoreError:
                self._freed.append(entry)
                continue
            refusal = verdict(entry.needs, outcomes)
            if refusal is None:
                self._book.unblock(entry, self._clock.time_s())
            else:
                self._end(entry, CANCELLED, *refusal)

    async def _load_previous(self, claims: Sequence[Entry]) -> None:
        for entry in claims:
            if entry.needs is not None and entry.needs.take != "none":
                outcomes = await self._outcomes(entry.needs.on)
                results = {i: await self._shelf.result(o) for i, o in outcomes.items()}
                entry.previous = previous_of(entry.needs, results)

    async def _outcomes(self, task_ids: Sequence[str]) -> dict[str, Outcome]:
        """Return what came of tasks, from memory where it is there."""
        found = {i: o for i in task_ids if (o := self._shelf.recent(i)) is not None}
        if missing := [task_id for task_id in task_ids if task_id not in found]:
            found |= await self._ledger.outcomes(missing)
        return found

    # -- out --------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        while self._runs and len(self._refs) < self._crew.limit:
            entry = self._book.next_to_run()
            if entry is None:
                return
            arguments = entry.arguments or b'{"args":[],"kwargs":{}}'
            if entry.code is None:  # else they are nowhere but here
                self._let_arguments_go(entry)
            tell_at_once = entry.timeout_s is not None or not self._crew.is_quick
            attempt = Attempt(
                entry.id, entry.tries, entry.name, entry.target, arguments, entry.previous,
                tell_at_once, entry.code,
            )  # fmt: skip
            self._refs[entry.id] = ref = self._runner.start(attempt)
            self.keep(self._await(entry, ref))

    async def _await(self, entry: Entry, ref: Any) -> None:
        try:
            ended = await self._runner.ended(ref)
        except Died as error:
            self._refs.pop(entry.id, None)
            await self._on_death(entry, error)
        else:
            self._refs.pop(entry.id, None)
            self._hand_out()  # from what is noted already; the outcome is written beside
            await self._on_end(entry, ended)
        self._work.set()

    async def _on_end(self, entry: Entry, brought: Ended) -> None:
        ended = bounded(brought)
        took_s = ended.finished_s - ended.started_s
        self._crew.ended(ended.worker, ended.finished_s, took_s, ended.error_code is None)
        TASK_SECONDS.labels(entry.name).observe(took_s)
        entry.started_s, entry.worker, entry.progress = (
            ended.started_s, ended.worker, ended.progress,
        )  # fmt: skip
        if ended.error_code is not None:
            if entry.ending is not None:
                self._stopped(entry)
            else:
                self._failed(
                    entry, ended.error_code, ended.error, ended.is_retryable, ended.after_s
                )
            return
        if ended.kind == JSON and len(ended.data) <= INLINE_BYTES:
            self._end(entry, COMPLETED, result=ended.data.decode(), size=len(ended.data))
            return
        try:
            name = await self._shelf.file(entry.id, ended.kind, ended.data)
        except StoreError as error:
            text = f"its result's file: {error.message}"
            self._failed(entry, "result_unwritten", text, True, None)
            return
        self._end(entry, COMPLETED, file=name, size=len(ended.data))

    async def _on_death(self, entry: Entry, error: Died) -> None:
        self._crew.died(entry.worker, entry.id)
        if entry.ending is not None:
            self._stopped(entry)
            return
        self._hand_out()
        await self._clock.sleep(self._death_pause_s)  # this process ends too if the node did
        self._failed(entry, "worker_died", f"its process died: {error}", True, None)

    def _stopped(self, entry: Entry) -> None:
        """Note the end of what was stopped on purpose."""
        why, entry.ending = entry.ending, None
        if why == "timeout":
            reason = f"stopped after {entry.timeout_s:g} s"
            self._failed(entry, "task_timeout", reason, True, None)
        elif why == "drain":
            entry.losses += 1
            self._again(entry, self._clock.time_s(), "the service stopped")
        else:
            self._end(entry, CANCELLED, "cancelled", (why or "").removeprefix(_CANCEL))

    def _failed(
        self, entry: Entry, code: str, error: str, is_retryable: bool, after_s: float | None
    ) -> None:
        error = plain_text(error, ERROR_CHARS)
        if not is_retryable or entry.tries - entry.losses > entry.max_retries:
            self._end(entry, FAILED, code, error)
            return
        asked_s = bounded_s(after_s)
        pause_s = self._book.pause_s(entry) if asked_s is None else asked_s
        self._again(entry, self._clock.time_s() + pause_s, error)

    def _lost(self, entry: Entry) -> None:
        """Let a task run again whose try ended with the queue or the node."""
        entry.losses += 1
        if entry.losses > MOST_LOSSES:
            reason = f"{entry.losses} times the service died while it ran"
            self._end(entry, FAILED, "poison", reason)
            return
        self._again(entry, self._clock.time_s(), "the service ended while it ran")

    def _again(self, entry: Entry, at_s: float, error: str | None) -> None:
        if self._is_over(entry):
            return
        entry.last_error = error
        now_s = self._clock.time_s()
        self._book.again(entry, at_s, now_s)
        if entry.code is None:
            self._changes.again.append(
                Again(entry.id, entry.state, entry.tries, entry.losses, at_s, error)
            )
        self._news.task(entry.id, partial(entry_shown, entry))
        self._work.set()

    def _end(
        self,
        entry: Entry,
        state: str,
        code: str | None = None,
        error: str | None = None,
        result: str | None = None,
        file: str | None = None,
        size: int = 0,
    ) -> None:
        """Note what came of a task, once; told when it is in the store."""
        if self._is_over(entry):
            return
        if entry.stage != "running":
            self._book.hold(entry)
        outcome = Outcome(
            entry.id, state, None if entry.started_s is None else utc(entry.started_s),
            utc(self._clock.time_s()), entry.worker,
            100.0 if state == COMPLETED else entry.progress, code, error, result, file, size,
        )  # fmt: skip
        self._over[entry.id] = outcome
        if entry.code is None:
            self._changes.outcomes.append(outcome)
            if entry.has_webhook:
                self._changes.hooked.add(entry.id)
            self._work.set()
        else:
            self._settle(outcome)

    def _is_over(self, entry: Entry) -> bool:
        """Return whether it is known already what came of a task, though a try may yet end."""
        return entry.id in self._over or self._book.get(entry.id) is not entry

    def _settle(self, outcome: Outcome) -> None:
        """Tell of an outcome that is in the store."""
        self._over.pop(outcome.task_id, None)
        self._shelf.keep(outcome)
        entry = self._book.get(outcome.task_id)
        if entry is not None:
            TASKS_ENDED.labels(entry.name, outcome.state).inc()
            self._crew.count(outcome.state)
            self._news.task(entry.id, partial(ended_shown, entry, outcome))
            self._let_arguments_go(entry)
            self._freed += self._book.end(entry)
        self._waiters.ended(outcome.task_id)

    # -- stopping what runs -----------------------------------------------------------------

    async def watch(self) -> None:
        """Never return: stop what is over its time, count what there is."""
        counted_s = slots_s = 0.0
        while True:
            await self._clock.sleep(_WATCH_EVERY_S)
            now_s = self._clock.time_s()
            for task_id in list(self._refs):
                entry = self._book.get(task_id)
                if entry is None or entry.timeout_s is None or entry.started_s is None:
                    continue
                if entry.ending is None and now_s - entry.started_s > entry.timeout_s:
                    self._stop(entry, "timeout")
            if now_s - counted_s >= 1.0:
                counted_s = now_s
                self._tell_counts()
            if now_s - slots_s >= _SLOTS_EVERY_S:
                slots_s = now_s
                slots = await self._runner.slots() or self.settings.task_workers
                most = following.now.task_at_once
                self._crew.slots = slots if most is None else max(1, min(slots, most))

    def _tell_counts(self) -> None:
        stages = self._book.stages
        for stage in ("blocked", "delayed", "ready", "claimed", "running"):
            TASKS_WAITING.labels(stage, self.process).set(stages[stage])
        waiting = sum(stages[s] for s in ("blocked", "delayed", "ready", "claimed"))
        self._news.counts({"pending": waiting, "running": stages["running"]} | self._crew.ends)

    def _stop(self, entry: Entry, why: str) -> None:
        """Stop what runs, once; of the reasons the first counts, and who cancels before others."""
        if (ref := self._refs.get(entry.id)) is None:
            return
        former, is_cancel = entry.ending, why.startswith(_CANCEL)
        if former is None or (is_cancel and not former.startswith(_CANCEL)):
            entry.ending = why
        if former is None:
            self.keep(self._cancel(entry, ref))

    async def _cancel(self, entry: Entry, ref: Any) -> None:
        """Interrupt a task; end its process where that does not help, as in C code."""
        for force in (False, True):
            if self._refs.get(entry.id) is not ref:
                return
            await self._runner.stop(ref, force)
            await self._clock.sleep(_FORCE_AFTER_S)
        if self._refs.get(entry.id) is ref and entry.worker is not None:
            self._runner.kill(entry.worker)

    # -- what others ask --------------------------------------------------------------------

    def note(
        self,
        task_id: str,
        attempt: int,
        started_s: float,
        worker: str,
        progress: float,
        message: str,
    ) -> None:
        """Take from a running task that it runs, and how far it is."""
        entry = self._book.get(task_id)
        if entry is None or entry.stage != "running" or entry.tries != attempt:
            return
        entry.started_s, entry.worker = moment_s(started_s), worker
        entry.progress, entry.message = pct(progress), plain_text(message, MESSAGE_CHARS)
        self._crew.began(worker, task_id, entry.started_s)
        self._news.task(entry.id, partial(entry_shown, entry))

    async def task(self, task_id: str) -> dict[str, Any]:
        """Return a task as the API shows it."""
        entry = self._book.get(task_id)
        if entry is not None and task_id not in self._over:
            return entry_shown(entry)
        stored = await self._store.read(lambda unit: unit.tasks.get(task_id))
        if stored is None:
            if entry is not None:
                return entry_shown(entry)
            raise TaskIdUnknown(task_id)
        outcome = (await self._outcomes([task_id])).get(task_id)
        return task_shown(stored, outcome)

    def live(self, task_ids: list[str]) -> dict[str, dict[str, Any]]:
        """Return those of the tasks that have not ended."""
        entries = {task_id: self._book.get(task_id) for task_id in task_ids}
        return {i: entry_shown(e) for i, e in entries.items() if e is not None}

    async def results(self, task_ids: list[str], timeout_s: float) -> bytes:
        """Return what came of tasks, once all ended or the time is over; as much as fits."""
        await self._loaded()
        if timeout_s > 0:
            await self._waiters.wait([i for i in task_ids if i in self._book], timeout_s)
        found: list[Result] = []
        size, ended = 0, [i for i in task_ids if i not in self._book]
        outcomes = await self._outcomes(ended)
        for task_id in task_ids:
            outcome = outcomes.get(task_id)
            if outcome is not None and size < _ANSWER_BYTES:
                found.append(await self._shelf.result(outcome))
                size += len(found[-1].data)
            elif outcome is None and (entry := self._book.get(task_id)) is not None:
                found.append(Result(task_id, entry.state, None, None, "", b""))
            elif outcome is None:
                await self._known_or_raise(task_id)
        return packed_results(found)

    async def _known_or_raise(self, task_id: str) -> None:
        states = await self._store.read(lambda unit: unit.tasks.states([task_id]))
        if task_id not in states:
            raise TaskIdUnknown(task_id)

    async def cancel(self, task_id: str, reason: str) -> dict[str, Any]:
        """Cancel a task, its children and what waits for it."""
        await self._loaded()
        entry = self._book.get(task_id)
        if entry is None or task_id in self._over:
            shown = await self._shown_state(task_id)
            return {"cancelled": False, "status": shown}
        self._cancel_entry(entry, reason)
        self._work.set()
        return {"cancelled": True, "status": entry.state}

    def _cancel_entry(self, entry: Entry, reason: str) -> None:
        if entry.id in self._over:
            return
        if entry.id in self._refs:
            self._stop(entry, _CANCEL + reason)
        else:
            self._end(entry, CANCELLED, "cancelled", reason)
        for child in self._book.children(entry.id):
            self._cancel_entry(child, f"its parent was cancelled: {reason}")

    async def _shown_state(self, task_id: str) -> str:
        if (outcome := self._over.get(task_id) or self._shelf.recent(task_id)) is not None:
            return outcome.state
        states = await self._store.read(lambda unit: unit.tasks.states([task_id]))
        if task_id not in states:
            raise TaskIdUnknown(task_id)
        return states[task_id]

    async def requeue(self, task_id: str) -> None:
        """Let a failed or cancelled task begin anew."""
        await self._loaded()
        async with self._requeues:
            await self._requeue(task_id)

    async def _requeue(self, task_id: str) -> None:
        stored = await self._store.read(lambda unit: unit.tasks.get(task_id))
        if stored is None:
            raise TaskIdUnknown(task_id)
        if stored.state not in (FAILED, CANCELLED) or task_id in self._book:
            raise TaskNotRequeued(task_id, stored.state)
        self._refuse_at_once(task_id, stored.state)
        if (same := self._of_key(stored.unique_key)) is not None:
            raise TaskNotRequeued(task_id, stored.state, same=same)
        begun = anew(stored, self._clock.time_s())
        try:
            was_there = await self._store.write(lambda unit: unit.tasks.requeue(begun))
        except BaseException:  # a cancellation too: the store may have done it all the same
            self._shelf.forget(task_id)
            self._unsure[task_id] = None
            self._work.set()
            raise
        if not was_there:
            raise TaskIdUnknown(task_id)
        self._requeued_s[task_id] = self._clock.monotonic_s()
        self._shelf.forget(task_id)
        same = self._of_key(stored.unique_key)  # accepted meanwhile
        if same == task_id:
            same = None
        entry = entry_of(begun if same is None else replace(begun, unique_key=None))
        self._add(entry)
        self._news.task(entry.id, partial(entry_shown, entry))
        self._work.set()
        if same is not None:
            self._leave_to(same, task_id)
            raise TaskNotRequeued(task_id, stored.state, same=same)

    def _refuse_at_once(self, task_id: str, state: str) -> None:
        now_s = self._clock.monotonic_s()
        for known, at_s in list(self._requeued_s.items()):
            if now_s - at_s < _REQUEUE_PAUSE_S:
                break
            del self._requeued_s[known]
        if (at_s := self._requeued_s.get(task_id, -math.inf)) > now_s - _REQUEUE_PAUSE_S:
            raise TaskNotRequeued(task_id, state, now_s - at_s)

    async def stats(self) -> dict[str, Any]:
        """Return how the queue and its workers do."""
        stages = self._book.stages
        counts = await self._store.read(lambda unit: unit.tasks.counts(self.settings.task_queue))
        return {
            "is_running": self._runs and not self._standby,
            "standby": self._standby or None,
            "stages": {name: count for name, count in stages.items() if name != "ended"},
            "status_counts": counts,
            "ends": dict(self._crew.ends),
            "workers": self._crew.shown(self._clock.time_s()),
            "slots": self._crew.slots,
        }

    def set_running(self, runs: bool) -> None:
        """Let the queue start tasks, or none. Until the actor restarts: then it runs."""
        self._runs = runs
        self._work.set()

    async def expire(self, max_age_s: float) -> int:
        """Forget tasks that ended so long ago."""
        before, total = utc(self._clock.time_s() - max_age_s), 0
        while True:
            count = await self._store.write(
                lambda unit: unit.tasks.expire(before, 1_000), limit=BATCH
            )
            total += count
            if count < 1_000:
                await self._shelf.expire(before.timestamp(), self._book)
                return total

    async def drain(self, grace_s: float) -> int:
        """Start nothing; after the grace, stop what runs and let it run at the next start."""
        self._runs = False
        for entry in self._book.unclaim_all(self._clock.time_s()):
            entry.tries -= 1
            self._again(entry, entry.available_s, entry.last_error)
        deadline_s = self._clock.monotonic_s() + grace_s
        while self._refs and self._clock.monotonic_s() < deadline_s:
            await self._clock.sleep(0.02)
        left = [e for i in list(self._refs) if (e := self._book.get(i)) is not None]
        for entry in left:
            self._stop(entry, "drain")
        deadline_s = self._clock.monotonic_s() + 2 * _FORCE_AFTER_S + 0.5
        while (self._refs or self._changes) and self._clock.monotonic_s() < deadline_s:
            await self._clock.sleep(0.02)
        return len(left)

    async def purge(self) -> None:
        """Never return: forget what ended long ago."""
        while True:
            await self._clock.sleep(_PURGE_EVERY_S)
            try:
                await self.expire(self.settings.keep_results_h * 3_600)
            except StoreError as error:
                logger.info("tasks.unpurged", extra={"reason": error.code})
