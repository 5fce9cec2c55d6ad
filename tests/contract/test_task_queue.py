"""The queue on both databases: what was accepted ends, once, whatever is killed."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgpack
import orjson
import pytest
from sqlalchemy import delete, select, update

from infra.clock import SystemClock
from infra.db import tables
from infra.db.store import Store
from infra.db.tasks import FINISHED, Outcome, TaskFilter, Tasks
from infra.db.unit import Unit
from infra.errors import (
    StoreError,
    StoreExhausted,
    StoreUnavailable,
    StoreUnsure,
    TaskIdUnknown,
    TaskNotRequeued,
    TaskQueueFull,
    TaskQueueStopped,
)
from infra.settings import Settings
from pipelines.queue.client import Result
from pipelines.queue.live import MOST_LOSSES
from pipelines.submission import Dependencies, Submission, TaskPriority, new_task_id
from pipelines.submission import packed_submissions as packed
from tests.databases import KINDS, database
from tests.settings import made_settings
from tests.task_queues import HeldRunner, RunningQueue


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with database(request.param, tmp_path) as url:
        made = Store(url)
        await made.migrate()
        yield made
        await made.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return made_settings(data_dir=tmp_path, task_workers=2, max_tasks=500)


class Queue:
    """A queue, its runner and its store."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store
        self.runner = HeldRunner()
        self.own = RunningQueue(settings, store, self.runner, draws=random.Random(3))

    async def submit(self, *many: Submission) -> list[str]:
        return await self.own.queue.admission.submit(packed(many))

    async def again(self) -> None:
        """Kill the process, and begin another over the same database."""
        await self.own.kill()
        self.runner = HeldRunner()
        self.own = RunningQueue(self.settings, self.store, self.runner, draws=random.Random(4))

    async def status(self, task_id: str) -> str:
        return str((await self.own.queue.queries.task(task_id))["status"])

    async def result(self, task_id: str) -> Result:
        text = await self.own.queue.queries.results([task_id], 5.0)
        return Result(*msgpack.unpackb(text)[0])

    async def runs(self, task_id: str) -> None:
        await until(lambda: task_id in self.runner.attempts, f"{task_id} runs")


@pytest.fixture
async def queue(settings: Settings, store: Store) -> AsyncIterator[Queue]:
    made = Queue(settings, store)
    yield made
    await made.own.kill()


def one(name: str = "t", **options: Any) -> Submission:
    return Submission(
        new_task_id(), name, f"tests:{name}", b'{"args":[],"kwargs":{}}',
        **({"retry_delay_s": 0.01} | options),
    )  # fmt: skip


async def until(holds: Callable[[], bool], what: str, within_s: float = 20.0) -> None:
    deadline_s = asyncio.get_running_loop().time() + within_s
    while not holds():
        assert asyncio.get_running_loop().time() < deadline_s, what
        await asyncio.sleep(0.005)


async def test_a_task_is_in_the_store_before_its_caller_has_the_id(queue: Queue) -> None:
    task = one(priority=TaskPriority.HIGH, timeout_s=5.0)
    assert await queue.submit(task) == [task.id]

    stored = await queue.store.read(lambda unit: unit.tasks.get(task.id))
    assert stored is not None
    assert (stored.name, stored.priority, stored.timeout_s) == ("t", 1, 5.0)
    await queue.runs(task.id)
    started = await queue.store.read(lambda unit: unit.tasks.get(task.id))
    assert started is not None
    assert (started.state, started.tries) == ("running", 1)  # written before it ran

    queue.runner.complete(task.id, b'{"answer":42}')
    result = await queue.result(task.id)
    assert result.value() == {"answer": 42}
    assert await queue.status(task.id) == "completed"


async def test_what_fails_is_tried_again_on_the_same_id_and_then_a_dead_letter(
    queue: Queue,
) -> None:
    task = one(max_retries=2)
    await queue.submit(task)
    for attempt in (1, 2, 3):
        await until(lambda n=attempt: (task.id, n) in queue.runner.started, "next try")  # type: ignore[misc]
        queue.runner.fail(task.id, f"no {attempt}")

    result = await queue.result(task.id)
    assert (result.state, result.error) == ("failed", "no 3")
    assert len(queue.runner.started) == 3

    # and begins anew when it is asked to
    await queue.own.queue.admission.requeue(task.id)
    await until(
        lambda: queue.runner.started[-1] == (task.id, 1) and bool(queue.runner.attempts), ""
    )
    queue.runner.complete(task.id)
    assert (await queue.result(task.id)).state == "completed"
    with pytest.raises(TaskNotRequeued):
        await queue.own.queue.admission.requeue(task.id)


async def test_what_no_retry_helps_is_not_tried_again(queue: Queue) -> None:
    task = one(max_retries=5)
    await queue.submit(task)
    await queue.runs(task.id)
    queue.runner.fail(task.id, "wrong arguments", is_retryable=False)

    assert (await queue.result(task.id)).state == "failed"
    assert len(queue.runner.started) == 1


async def test_a_death_counts_as_a_try(queue: Queue) -> None:
    task = one(max_retries=1)
    await queue.submit(task)
    for attempt in (1, 2):
        await until(lambda n=attempt: (task.id, n) in queue.runner.started, "next try")  # type: ignore[misc]
        queue.runner.die(task.id)

    result = await queue.result(task.id)
    assert (result.state, result.error_code) == ("failed", "worker_died")


async def test_what_is_over_its_time_is_stopped_and_that_is_a_try(queue: Queue) -> None:
    task = one(timeout_s=0.2, max_retries=1)
    await queue.submit(task)
    for attempt in (1, 2):
        await until(lambda n=attempt: (task.id, n) in queue.runner.started, "next try")  # type: ignore[misc]
        await queue.own.queue.attempts.note(task.id, attempt, 0.0, "held-1", 0.0, "")

    result = await queue.result(task.id)
    assert (result.state, result.error_code) == ("failed", "task_timeout")


async def test_what_does_not_obey_is_killed(queue: Queue) -> None:
    queue.runner.obeys = False
    task = one(max_retries=0)
    await queue.submit(task)
    await queue.runs(task.id)
    await queue.own.queue.attempts.note(task.id, 1, 0.0, "held-1", 0.0, "")

    answer = await queue.own.queue.attempts.cancel(task.id, "enough")
    result = await queue.result(task.id)

    assert answer["cancelled"] is True
    assert (result.state, result.error) == ("cancelled", "enough")
    assert queue.runner.stopped == [(task.id, False), (task.id, True)]


async def test_waiting_later_and_ended_tasks_are_cancelled_or_not(queue: Queue) -> None:
    first, second, later = one(), one(), one(delay_s=60.0)
    waits = one(needs=Dependencies((later.id,)).as_json())
    await queue.submit(first, second, one(), later, waits)
    await queue.runs(second.id)
    third = (await queue.submit(one()))[0]
    assert await queue.status(third) == "pending"

    for task_id in (third, later.id):
        assert (await queue.own.queue.attempts.cancel(task_id, "asked"))["cancelled"] is True
        assert (await queue.result(task_id)).state == "cancelled"
    assert (await queue.result(waits.id)).error_code == "step_before_failed"
    queue.runner.complete(first.id)
    await queue.result(first.id)
    assert (await queue.own.queue.attempts.cancel(first.id, "asked")) == {
        "cancelled": False,
        "status": "completed",
    }
    with pytest.raises(TaskIdUnknown):
        await queue.own.queue.attempts.cancel("nothing", "asked")


async def test_children_end_with_their_parent(queue: Queue) -> None:
    parent = one()
    await queue.submit(parent)
    await queue.runs(parent.id)
    child, waiting = one(parent_id=parent.id), one(parent_id=parent.id, delay_s=60.0)
    await queue.submit(child, waiting)
    await queue.runs(child.id)

    await queue.own.queue.attempts.cancel(parent.id, "enough")

    for task in (parent, child, waiting):
        assert (await queue.result(task.id)).state == "cancelled"


async def test_the_same_work_is_done_once(queue: Queue) -> None:
    first, same = one(unique_key="k"), one(unique_key="k")
    assert await queue.submit(first, same) == [first.id, first.id]
    assert await queue.submit(one(unique_key="k")) == [first.id]
    await queue.runs(first.id)
    queue.runner.complete(first.id)
    await queue.result(first.id)
    other = one(unique_key="k")
    assert await queue.submit(other) == [other.id]

    # an idempotency key holds for as long as the task is kept, over restarts too
    key = "i" * 64
    ids = await asyncio.gather(*(queue.submit(one(idempotency_key=key)) for _ in range(5)))
    assert len({task_id for (task_id,) in ids}) == 1
    await queue.again()
    assert await queue.submit(one(idempotency_key=key)) == ids[0]

    # and the same call again, as after a lost answer, is the same task
    twice = one()
    assert await queue.submit(twice) == await queue.submit(twice) == [twice.id]


async def test_a_full_queue_takes_no_more(queue: Queue) -> None:
    await queue.submit(*(one() for _ in range(500)))
    with pytest.raises(TaskQueueFull) as caught:
        await queue.submit(one())
    assert caught.value.retry_after_s > 0


async def test_large_results_are_files_and_leave_with_their_task(queue: Queue) -> None:
    task = one()
    await queue.submit(task)
    await queue.runs(task.id)
    text = orjson.dumps("x" * 100_000)
    queue.runner.complete(task.id, text)

    assert (await queue.result(task.id)).data == text
    (file,) = (queue.settings.data_dir / "results").iterdir()
    assert await queue.own.queue.expire(60.0) == 0
    assert file.exists()
    assert file.name == f"{task.id}.json"
    assert await queue.own.queue.expire(-1.0) == 1
    assert not file.exists()
    with pytest.raises(TaskIdUnknown):
        await queue.own.queue.queries.task(task.id)


HOOK = orjson.dumps(["https://hooks.example.com/x", "whsec_abc", "t"]).decode()


async def told(queue: Queue) -> list[dict[str, Any]]:
    """Return the facts of all notices, in the order in which they were given."""
    table = tables.deliveries
    query = select(table.c.target, table.c.body).order_by(table.c.id)
    rows = (await queue.store.read(lambda unit: unit.connection.execute(query))).all()
    assert {row.target for row in rows} == {"https://hooks.example.com/x"}
    return [orjson.loads(row.body)["facts"] for row in rows]


async def test_a_webhook_goes_with_each_outcome(queue: Queue) -> None:
    task = one(webhook=HOOK, max_retries=0)
    await queue.submit(task)
    await queue.again()  # it is known after a restart too
    for error in ("no", "no again"):
        await queue.runs(task.id)
        queue.runner.fail(task.id, error)
        await queue.result(task.id)
        if error == "no":
            await queue.own.queue.admission.requeue(task.id)

    assert [(f["task_id"], f["status"], f["error"]) for f in await told(queue)] == [
        (task.id, "failed", "no"), (task.id, "failed", "no again"),
    ]  # fmt: skip


async def test_a_webhook_goes_with_an_outcome_that_is_written_in_a_later_part(
    settings: Settings, store: Store
) -> None:
    queue = Queue(settings.model_copy(update={"task_workers": 80}), store)
    tasks = [one(webhook=HOOK) for _ in range(80)]
    await queue.submit(*tasks)
    for task in tasks:
        await queue.runs(task.id)
    for task in tasks:  # together more than one transaction takes
        queue.runner.complete(task.id, orjson.dumps("x" * 60_000))
    for task in tasks:
        await queue.result(task.id)

    assert {facts["task_id"] for facts in await told(queue)} == {task.id for task in tasks}
    await queue.own.kill()


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_step_that_is_retried_runs_whatever_those_before_it_did(
    queue: Queue, restarts: bool
) -> None:
    first = await failed_one(queue)
    second = one(needs=Dependencies((first,), take="one").as_json())
    third = one(needs=Dependencies((second.id,), "any").as_json())
    await queue.submit(second, third)
    for task in (second, third):
        assert (await queue.result(task.id)).state == "cancelled"

    await queue.own.queue.set_running(False)
    await queue.own.queue.admission.requeue(second.id)
    await queue.own.queue.admission.requeue(third.id)  # waits for the one before it
    if restarts:
        await queue.again()
    await queue.own.queue.set_running(True)

    await queue.runs(second.id)
    error = orjson.loads(queue.runner.attempts[second.id].previous or b"")["error"]
    assert error == {"code": "ValueError", "message": "no"}
    assert set(queue.runner.attempts) == {second.id}
    queue.runner.fail(second.id, is_retryable=False)
    await queue.runs(third.id)
    queue.runner.complete(third.id)
    assert (await queue.result(third.id)).state == "completed"


async def test_a_retried_step_whose_answer_was_lost_runs_too(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await failed_one(queue)
    second = one(needs=Dependencies((first,)).as_json())
    await queue.submit(second)
    assert (await queue.result(second.id)).state == "cancelled"
    lose_answer(queue, monkeypatch)
    with pytest.raises(StoreUnsure):
        await queue.own.queue.admission.requeue(second.id)

    await queue.runs(second.id)


async def test_what_began_before_a_restart_is_not_held_against_those_before_it_again(
    queue: Queue,
) -> None:
    first = one()
    second = one(needs=Dependencies((first.id,)).as_json(), retry_delay_s=1.0)
    await queue.submit(first, second)
    await queue.runs(first.id)
    queue.runner.complete(first.id)
    await queue.runs(second.id)
    assert await queue.own.queue.expire(-1.0) == 1  # of which nothing is known any more
    queue.runner.bring(second.id, is_retryable=True, after_s=0.5)
    while await agreed(queue) != {second.id: "retrying"}:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.005)

    await queue.again()
    await queue.runs(second.id)


async def test_arguments_in_memory_are_counted_until_they_are_let_go(queue: Queue) -> None:
    large = orjson.dumps({"args": ["x" * 1_000], "kwargs": {}})
    tasks = [replace(one(code=code), arguments=large) for code in (None, b"code")]
    waiting = replace(one(delay_s=60.0), arguments=large)
    for task in (*tasks, waiting):
        await queue.submit(task)
    for attempt in (1, 2):
        for task in tasks:
            await until(lambda t=task, n=attempt: (t.id, n) in queue.runner.started, "it runs")  # type: ignore[misc]
            assert queue.runner.attempts[task.id].arguments == large
            queue.runner.fail(task.id) if attempt == 1 else queue.runner.complete(task.id)
    for task in tasks:
        await until(lambda t=task: t.id not in queue.own.queue.live.backlog, "it ended")  # type: ignore[misc]

    assert queue.own.queue.live.argument_bytes == len(large)
    await queue.own.queue.attempts.cancel(waiting.id, "asked")
    await queue.result(waiting.id)
    assert queue.own.queue.live.argument_bytes == 0


async def test_what_ran_when_the_queue_died_runs_again(queue: Queue) -> None:
    running, waiting = one(max_retries=0), one()
    blocked = one(needs=Dependencies((waiting.id,), take="one").as_json())
    await queue.submit(running, one(), waiting, blocked)
    await queue.runs(running.id)

    await queue.again()

    await queue.runs(running.id)
    assert queue.runner.attempts[running.id].number == 2
    for task_id in (running.id, await _other(queue, running.id)):
        queue.runner.complete(task_id)
    await queue.runs(waiting.id)
    queue.runner.complete(waiting.id, b"7")
    await queue.runs(blocked.id)
    assert queue.runner.attempts[blocked.id].previous == b"7"
    assert (await queue.result(running.id)).state == "completed"  # that try was no failure


async def _other(queue: Queue, task_id: str) -> str:
    await until(lambda: len(queue.runner.attempts) == 2, "two run")
    return next(i for i in queue.runner.attempts if i != task_id)


async def test_a_task_under_which_the_service_always_dies_is_poison(queue: Queue) -> None:
    task = one(max_retries=0)
    await queue.submit(task)
    for _ in range(MOST_LOSSES + 1):
        await queue.runs(task.id)
        await queue.again()

    result = await queue.result(task.id)
    assert (result.state, result.error_code) == ("failed", "poison")


async def test_one_process_at_a_time_runs_a_queue(queue: Queue, store: Store) -> None:
    task = one()
    await queue.submit(task)
    await queue.runs(task.id)
    elsewhere = queue.settings.model_copy(update={"data_dir": queue.settings.data_dir / "b"})
    other = RunningQueue(elsewhere, store, HeldRunner())
    await asyncio.sleep(0.7)
    with pytest.raises(TaskQueueStopped, match="FINSTAGE_TASK_QUEUE"):
        await other.queue.admission.submit(packed([one()]))
    await other.kill()

    # the same holder takes it over at once, and who had it before writes nothing more
    heir = RunningQueue(queue.settings, store, HeldRunner())
    await until(lambda: bool(heir.runner.attempts), "the heir runs it")
    queue.runner.complete(task.id)
    await until(lambda: bool(queue.own.failures), "the former one is told")
    assert isinstance(queue.own.failures.pop(), TaskQueueStopped)
    heir.runner.complete(task.id, b"1")
    await until(lambda: not heir.runner.attempts, "it ends")
    await heir.kill()


@pytest.mark.parametrize("seed", range(3))
async def test_over_kills_at_random_moments_each_accepted_task_ends_once(
    queue: Queue, seed: int
) -> None:
    draws = random.Random(seed)
    accepted: list[str] = []
    for _ in range(12):
        batch = [one(max_retries=draws.choice((0, 1, 3))) for _ in range(draws.randrange(1, 40))]
        accepted += await queue.submit(*batch)
        for _ in range(draws.randrange(30)):
            await asyncio.sleep(0.001)
            for task_id in list(queue.runner.attempts):
                ends = draws.random()
                if ends < 0.6:
                    queue.runner.complete(task_id, b"1")
                elif ends < 0.8:
                    queue.runner.fail(task_id)
                elif ends < 0.9:
                    queue.runner.die(task_id)
        if draws.random() < 0.5:
            await queue.again()
    while queue.own.queue.unfinished:
        await asyncio.sleep(0.002)
        for task_id in list(queue.runner.attempts):
            queue.runner.complete(task_id, b"1")

    everything = TaskFilter()
    stored = await queue.store.read(lambda unit: unit.tasks.page(everything, 10_000, 0))
    outcomes = await queue.store.read(lambda unit: unit.tasks.outcomes(accepted))
    states = Counter(task.state for task in stored)
    assert {task.id for task in stored} == set(accepted), f"seed {seed}"
    assert states["completed"] + states["failed"] == len(accepted), f"seed {seed}: {states}"
    assert len(outcomes) == len(accepted)
    assert all(outcomes[task.id].state == task.state for task in stored)


# -- answers of the store that are lost --------------------------------------------------------


def lose_answer(
    queue: Queue,
    monkeypatch: pytest.MonkeyPatch,
    then: Callable[[], Any] | None = None,
    of: str = "_requeue",
) -> None:
    """Let the next transaction of a method be committed, and whoever asked be told it was not."""
    store = queue.own.queue._store
    write = store.write

    async def lost(work: Any, *args: Any, **options: Any) -> Any:
        if of not in work.__qualname__:  # the queue's own, which comes when it comes
            return await write(work, *args, **options)
        monkeypatch.setattr(store, "write", write)
        done = await write(work, *args, **options)
        if then is None:
            raise StoreUnsure("the store did not say whether it wrote this")
        await then()
        return done

    monkeypatch.setattr(store, "write", lost)


async def failed_one(queue: Queue, **options: Any) -> str:
    """Return a task that failed."""
    task = one(max_retries=0, **options)
    await queue.submit(task)
    await queue.runs(task.id)
    queue.runner.fail(task.id)
    assert (await queue.result(task.id)).state == "failed"
    return task.id


async def test_a_retry_whose_answer_was_lost_runs(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = await failed_one(queue)
    lose_answer(queue, monkeypatch)
    with pytest.raises(StoreUnsure):
        await queue.own.queue.admission.requeue(failed)

    assert await queue.status(failed) in (
        "pending",
        "running",
        "completed",
    )  # not as it ended before
    await queue.runs(failed)  # though nothing else happens
    queue.runner.complete(failed)
    assert (await queue.result(failed)).state == "completed"
    assert queue.runner.started == [(failed, 1), (failed, 1)]
    assert await agreed(queue) == {failed: "completed"}


async def test_a_retry_that_the_store_did_not_take_changes_nothing(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = await failed_one(queue)
    requeue = Tasks.requeue

    async def undone(*args: Any) -> bool:
        await requeue(*args)
        raise StoreExhausted("every connection to the store is in use; try again")

    monkeypatch.setattr(Tasks, "requeue", undone)
    with pytest.raises(StoreExhausted):
        await queue.own.queue.admission.requeue(failed)
    monkeypatch.undo()
    await until(lambda: not queue.own.queue.admission._unsure, "it is looked for")

    assert await queue.status(failed) == (await queue.result(failed)).state == "failed"
    await queue.own.queue.admission.requeue(failed)
    await queue.runs(failed)


async def test_submissions_whose_answer_was_lost_run_whatever_a_look_for_them_meets(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, lost, beside = one(), one(), one()
    await queue.submit(running)
    await queue.runs(running.id)
    lose_answer(queue, monkeypatch, of="")
    with pytest.raises(StoreUnsure):
        await queue.submit(lost)

    unfinished, looks = Tasks.unfinished, 0

    async def busy(*args: Any) -> Any:
        nonlocal looks
        looks += 1
        if looks < 3:
            raise StoreExhausted("every connection to the store is in use; try again")
        return await unfinished(*args)

    monkeypatch.setattr(Tasks, "unfinished", busy)
    await queue.submit(beside)
    await queue.runs(beside.id)
    queue.runner.complete(beside.id)
    await queue.runs(lost.id)
    for task in (running, lost):
        queue.runner.complete(task.id)
        assert (await queue.result(task.id)).state == "completed"
    assert not queue.own.failures
    assert {task_id for task_id, _ in queue.runner.started} == {running.id, lost.id, beside.id}
    assert len(queue.runner.started) == 3


async def test_what_never_reached_the_store_is_not_looked_for(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("the store does not answer: connection refused")

    await queue.submit()  # once it is loaded
    monkeypatch.setattr(queue.own.queue._store, "write", away)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await queue.submit(one())
    assert not queue.own.queue.admission._unsure


async def test_what_may_be_in_the_store_counts_as_in_the_queue(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Queue(settings.model_copy(update={"max_tasks": 2}), store)
    await queue.submit()  # once it is loaded
    own = queue.own.queue._store
    write = own.write

    async def lost(work: Any, *args: Any, **options: Any) -> Any:
        await write(work, *args, **options)
        raise StoreUnsure("the store did not say whether it wrote this")

    monkeypatch.setattr(own, "write", lost)
    for _ in range(2):
        with pytest.raises(StoreUnsure):
            await queue.submit(one())
    with pytest.raises(TaskQueueFull):
        await queue.submit(one())

    monkeypatch.undo()
    await until(lambda: len(queue.runner.attempts) == 2, "both are found, and run")
    await queue.own.kill()


async def test_a_result_that_cannot_be_deleted_ends_nothing(queue: Queue) -> None:
    tasks = [one(), one()]
    await queue.submit(*tasks)
    for task in tasks:
        await queue.runs(task.id)
        queue.runner.complete(task.id, orjson.dumps("x" * 100_000))
        await queue.result(task.id)
    stuck, other = sorted((queue.settings.data_dir / "results").iterdir())
    stuck.unlink()
    (stuck / "inside").mkdir(parents=True)

    assert await queue.own.queue.expire(-1.0) == 2
    assert not other.exists()


# -- retries of what is unique -----------------------------------------------------------------


async def test_what_is_unique_does_not_begin_anew_beside_its_like(queue: Queue) -> None:
    first = await failed_one(queue, unique_key="u")
    second = one(unique_key="u", max_retries=0)
    await queue.submit(second)
    await queue.runs(second.id)

    with pytest.raises(TaskNotRequeued, match=f"task {second.id} is the same work"):
        await queue.own.queue.admission.requeue(first)
    assert set(queue.runner.attempts) == {second.id}
    assert await queue.submit(one(unique_key="u")) == [second.id]

    queue.runner.fail(second.id)
    await queue.result(second.id)
    await queue.own.queue.admission.requeue(first)
    await queue.runs(first)
    assert await queue.submit(one(unique_key="u")) == [first]
    with pytest.raises(TaskNotRequeued, match=f"task {first} is the same work"):
        await queue.own.queue.admission.requeue(second.id)


async def test_what_is_unique_and_was_accepted_during_a_retry_is_the_one_that_runs(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await failed_one(queue, unique_key="u")
    second = one(unique_key="u")
    lose_answer(queue, monkeypatch, lambda: queue.submit(second))
    with pytest.raises(TaskNotRequeued, match=second.id):
        await queue.own.queue.admission.requeue(first)

    await queue.runs(second.id)
    assert (await queue.result(first)).error_code == "same_work"
    assert await queue.submit(one(unique_key="u")) == [second.id]
    assert set(queue.runner.attempts) == {second.id}
    assert await agreed(queue) == {first: "cancelled", second.id: "running"}


async def test_what_is_unique_and_was_accepted_after_a_lost_retry_is_the_one_that_runs(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await failed_one(queue, unique_key="u")
    second = one(unique_key="u")
    lose_answer(queue, monkeypatch)
    answers = await asyncio.gather(
        queue.own.queue.admission.requeue(first), queue.submit(second), return_exceptions=True
    )
    assert isinstance(answers[0], StoreUnsure)

    (held,) = await queue.submit(one(unique_key="u"))
    await queue.runs(held)
    assert len(queue.runner.attempts) == 1


# -- what a task brings ------------------------------------------------------------------------


async def agreed(queue: Queue) -> dict[str, str]:
    """Return the states of all tasks; each that ended has the one outcome that its state says."""
    stored = await queue.store.read(lambda unit: unit.tasks.page(TaskFilter(), 10_000, 0))
    outcomes = await queue.store.read(lambda unit: unit.tasks.outcomes([t.id for t in stored]))
    states = {task.id: task.state for task in stored}
    ended = {i: state for i, state in states.items() if state in FINISHED}
    assert ended == {i: outcome.state for i, outcome in outcomes.items()}
    return states


async def test_a_task_requeued_at_once_from_many_sides_runs_once(queue: Queue) -> None:
    task = one(max_retries=0)
    await queue.submit(task)
    await queue.runs(task.id)
    queue.runner.fail(task.id)
    await queue.result(task.id)
    queue.runner.started.clear()

    answers = await asyncio.gather(
        *(queue.own.queue.admission.requeue(task.id) for _ in range(10)), return_exceptions=True
    )
    assert answers.count(None) == 1
    assert sum(isinstance(answer, TaskNotRequeued) for answer in answers) == 9
    await queue.runs(task.id)
    assert (await queue.own.queue.queries.stats())["stages"]["running"] == 1
    queue.runner.complete(task.id)
    await queue.result(task.id)

    other = one()
    await queue.submit(other)
    await queue.runs(other.id)
    queue.runner.complete(other.id)
    await queue.result(other.id)
    assert queue.runner.started == [(task.id, 1), (other.id, 1)]
    assert not any((await queue.own.queue.queries.stats())["stages"].values())
    assert await agreed(queue) == {task.id: "completed", other.id: "completed"}


async def test_a_second_wish_of_the_same_moment_is_the_same_wish(
    settings: Settings, store: Store
) -> None:
    clock, runner = Ahead(), HeldRunner()
    own = RunningQueue(settings, store, runner, clock)
    task = one(max_retries=0)
    await own.queue.admission.submit(packed([task]))
    for _ in range(2):
        await until(lambda: task.id in runner.attempts, "it runs")
        runner.fail(task.id)
        await own.queue.queries.results([task.id], 5.0)
        clock.ahead_s += 2.0
        await own.queue.admission.requeue(task.id)
    await until(lambda: task.id in runner.attempts, "it runs")
    runner.fail(task.id)  # as fast as the other nine of ten requests come
    await own.queue.queries.results([task.id], 5.0)
    with pytest.raises(TaskNotRequeued, match="ago; ask again in a moment"):
        await own.queue.admission.requeue(task.id)
    await own.kill()


class Ahead(SystemClock):
    """The machine's clock, put forward."""

    ahead_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_s


async def test_what_expires_while_it_is_requeued_does_one_or_the_other(queue: Queue) -> None:
    tasks = [one(max_retries=0) for _ in range(20)]
    await queue.submit(*tasks)
    for task in tasks:
        await queue.runs(task.id)
        queue.runner.fail(task.id)
        await queue.result(task.id)

    answers = await asyncio.gather(
        *(queue.own.queue.admission.requeue(task.id) for task in tasks),
        queue.own.queue.expire(-1.0),
        return_exceptions=True,
    )
    again = [t.id for t, answer in zip(tasks, answers, strict=False) if answer is None]
    for task_id in again:
        await queue.runs(task_id)
        queue.runner.complete(task_id)
        assert (await queue.result(task_id)).state == "completed"
    assert set(await agreed(queue)) == set(again)
    assert not any((await queue.own.queue.queries.stats())["stages"].values())


async def test_children_that_run_are_stopped_once_and_say_why(queue: Queue) -> None:
    queue.runner.obeys = False
    parent = one()
    await queue.submit(parent)
    child, grandchild = one(parent_id=parent.id), one()
    grandchild = one(parent_id=child.id, delay_s=60.0)
    await queue.submit(child, grandchild)
    await queue.runs(parent.id)
    await queue.runs(child.id)

    await queue.own.queue.attempts.cancel(parent.id, "enough")
    await queue.own.queue.attempts.cancel(parent.id, "again")
    await until(lambda: len(queue.runner.stopped) == 4, "each is stopped, then by force")
    for task_id in list(queue.runner.attempts):
        queue.runner.die(task_id)

    assert (await queue.result(parent.id)).error == "enough"
    of_parent = "its parent was cancelled: enough"
    assert (await queue.result(child.id)).error == of_parent
    assert (await queue.result(grandchild.id)).error == f"its parent was cancelled: {of_parent}"
    assert sorted(queue.runner.stopped) == sorted(
        (i, force) for i in (parent.id, child.id) for force in (False, True)
    )


async def test_what_is_cancelled_and_drained_is_cancelled(queue: Queue) -> None:
    queue.runner.obeys = False
    task = one()
    await queue.submit(task)
    await queue.runs(task.id)
    await queue.own.queue.attempts.cancel(task.id, "enough")
    drained = asyncio.ensure_future(queue.own.queue.drain(0.0))
    await until(lambda: len(queue.runner.stopped) == 2, "stopped by force")
    queue.runner.die(task.id)
    await drained

    assert (await queue.result(task.id)).error == "enough"
    assert await agreed(queue) == {task.id: "cancelled"}


async def test_what_is_cancelled_while_its_result_is_kept_ends_once(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, file = asyncio.Event(), queue.own.queue._results.file

    async def slow(*args: str | bytes) -> str:
        name = await file(*args)  # type: ignore[arg-type]
        await gate.wait()
        return name

    monkeypatch.setattr(queue.own.queue._results, "file", slow)
    task, beside = one(), one()
    await queue.submit(task, beside)
    for each in (task, beside):
        await queue.runs(each.id)
        queue.runner.complete(each.id, orjson.dumps("x" * 100_000))
    await until(lambda: not queue.runner.attempts, "they have ended")
    await queue.own.queue.attempts.cancel(task.id, "too late, or not")
    told = await queue.result(task.id)
    folder = queue.settings.data_dir / "results"
    await until(lambda: len(list(folder.glob("*.json"))) == 2, "both files are there")

    # nobody names the one, the other's outcome is yet to come
    assert await queue.own.queue.expire(-1.0) == 1
    assert [path.name for path in folder.iterdir()] == [f"{beside.id}.json"]
    gate.set()
    assert (await queue.result(beside.id)).state == "completed"
    assert told.state == "cancelled"
    assert await agreed(queue) == {beside.id: "completed"}


@pytest.mark.parametrize(
    "brought",
    [
        {"after_s": math.inf}, {"after_s": -math.inf}, {"after_s": math.nan},
        {"after_s": 1e308}, {"after_s": -1e308}, {"started_s": math.nan},
        {"started_s": 1e308, "finished_s": -1e308}, {"progress": math.nan}, {"progress": 1e308},
        {"error_code": "Größenfehler" * 20}, {"error": "\ud800" + "x" * 100_000},
        {"error": "a\x00b"}, {"worker": "\ud800" * 300},
    ],
)  # fmt: skip
async def test_whatever_a_try_brings_is_its_own_end(queue: Queue, brought: dict[str, Any]) -> None:
    tasks = [one(max_retries=n) for n in (0, 1)]
    beside = one()
    await queue.submit(*tasks)
    for task in tasks:
        await queue.runs(task.id)
        queue.runner.bring(task.id, **({"is_retryable": True} | brought))
    assert (await queue.result(tasks[0].id)).state == "failed"
    await queue.submit(beside)
    await queue.runs(beside.id)
    queue.runner.complete(beside.id)

    assert (await queue.result(beside.id)).state == "completed"
    assert not queue.own.failures
    shown = await queue.own.queue.queries.task(tasks[1].id)
    now = datetime.now(UTC)
    assert now - timedelta(minutes=1) < datetime.fromisoformat(shown["available_at"])
    assert datetime.fromisoformat(shown["available_at"]) < now + timedelta(days=366)
    if shown["status"] == "retrying":
        await queue.own.queue.attempts.cancel(tasks[1].id, "enough")
        await queue.result(tasks[1].id)
    await queue.again()
    await agreed(queue)


async def test_what_a_task_says_of_itself_is_told(queue: Queue) -> None:
    task = one()
    await queue.submit(task)
    await queue.runs(task.id)
    await queue.own.queue.attempts.note(
        task.id, 1, math.inf, "held-1", math.nan, "half \ud800 a character"
    )
    shown = await queue.own.queue.queries.task(task.id)
    assert (shown["progress"], shown["progress_message"]) == (0.0, "half ? a character")
    await until(lambda: bool(queue.own.hub.messages), "it is told")
    assert not queue.own.failures


async def test_poison_does_not_run_once_more_and_outcome_and_state_agree(queue: Queue) -> None:
    task = one(max_retries=0)
    await queue.submit(task)
    for _ in range(MOST_LOSSES + 1):
        await queue.runs(task.id)
        await queue.again()
    await queue.result(task.id)
    assert not queue.runner.started
    assert await agreed(queue) == {task.id: "failed"}
    await queue.own.queue.admission.requeue(task.id)


async def test_a_start_mends_what_does_not_agree(queue: Queue) -> None:
    ran, later, lost, gone = tasks = [one(max_retries=0) for _ in range(4)]
    await queue.submit(*tasks)
    for task, ends in ((ran, "complete"), (later, "fail"), (lost, "fail"), (gone, "complete")):
        await queue.runs(task.id)
        getattr(queue.runner, ends)(task.id)
        await queue.result(task.id)
    await queue.own.kill()

    async def spoil(unit: Unit) -> None:
        states, outcomes = tables.tasks, tables.task_outcomes
        for task, state in ((ran, "running"), (later, "retrying")):
            change = update(states).where(states.c.id == task.id).values(state=state)
            await unit.connection.execute(change)
        for task in (lost, gone):
            await unit.connection.execute(delete(outcomes).where(outcomes.c.task_id == task.id))

    await queue.store.write(spoil)
    await queue.again()

    assert (await queue.result(ran.id)).state == "completed"
    for task in (lost, gone):
        result = await queue.result(task.id)
        assert (result.state, result.error_code) == ("failed", "outcome_lost")
    assert not queue.runner.started
    assert await agreed(queue) == {
        ran.id: "completed", later.id: "failed", lost.id: "failed", gone.id: "failed",
    }  # fmt: skip
    await queue.own.queue.admission.requeue(later.id)
    await queue.runs(later.id)


async def test_what_has_ended_is_not_started_by_the_same_transaction(queue: Queue) -> None:
    task = one()
    await queue.submit(task)
    await queue.runs(task.id)
    ended = Outcome(task.id, "failed", None, datetime.now(UTC), None, 0.0, "no", "no")

    async def both(unit: Unit) -> None:
        await unit.tasks.finish([ended])
        await unit.tasks.wait_again(task.id, "retrying", 1, 0, ended.finished_at, "no")
        await unit.tasks.start({2: [task.id]})
        await unit.tasks.finish([replace(ended, state="completed")])

    await queue.store.write(both)
    assert await agreed(queue) == {task.id: "failed"}


async def test_a_submission_that_cannot_be_leaves_nothing_of_its_call(queue: Queue) -> None:
    good, bad = one(), one(needs='["not needs"]')
    with pytest.raises(ValueError, match="unpack"):
        await queue.submit(good, bad)
    beside = one()
    await queue.submit(beside)
    await queue.runs(beside.id)
    assert queue.runner.started == [(beside.id, 1)]


@pytest.mark.parametrize("seed", range(3))
async def test_over_kills_cancels_and_retries_outcomes_and_states_agree(
    queue: Queue, seed: int
) -> None:
    draws = random.Random(seed)
    accepted: list[str] = []

    async def disturb(task_id: str) -> None:
        try:
            if draws.random() < 0.5:
                await queue.own.queue.attempts.cancel(task_id, "asked")
            else:
                await queue.own.queue.admission.requeue(task_id)
        except (TaskNotRequeued, StoreError):
            return

    for _ in range(8):
        parents = draws.sample(accepted, min(3, len(accepted)))
        batch = [
            one(max_retries=draws.choice((0, 1)), parent_id=draws.choice([*parents, None]))
            for _ in range(draws.randrange(1, 20))
        ]
        accepted += await queue.submit(*batch)
        for _ in range(draws.randrange(30)):
            await asyncio.gather(*(disturb(draws.choice(accepted)) for _ in range(2)))
            for task_id in list(queue.runner.attempts):
                ends = draws.random()
                if ends < 0.4:
                    queue.runner.complete(task_id, b"1")
                elif ends < 0.6:
                    queue.runner.bring(
                        task_id, is_retryable=True, after_s=draws.choice((math.nan, -math.inf))
                    )
                elif ends < 0.8:
                    queue.runner.die(task_id)
        if draws.random() < 0.4:
            await queue.again()
    while queue.own.queue.unfinished:
        await asyncio.sleep(0.002)
        for task_id in list(queue.runner.attempts):
            queue.runner.complete(task_id, b"1")

    states = await agreed(queue)
    assert set(states) == set(accepted), f"seed {seed}"
    assert set(states.values()) <= set(FINISHED), f"seed {seed}"
    stats = await queue.own.queue.queries.stats()
    assert not any(stats["stages"].values()), f"seed {seed}: {stats['stages']}"
    assert not queue.own.failures
