"""Tasks that wait for others: whether they run once those ended, and what they get of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from infra.db.tasks import CANCELLED, COMPLETED, Outcome
from infra.errors import StoreError
from pipelines.codec import JSON
from pipelines.queue.client import Result
from pipelines.queue.core import Entry
from pipelines.queue.live import LiveTasks
from pipelines.queue.results import ResultStore
from pipelines.submission import Dependencies


def verdict(needs: Dependencies, outcomes: Mapping[str, Outcome]) -> tuple[str, str] | None:
    """Return why a task does not run, as code and reason; None if it does."""
    good = [i for i in needs.on if i in outcomes and outcomes[i].state == COMPLETED]
    if needs.mode == "any" and not good:
        return "nothing_before", "none of the tasks before it completed"
    if needs.mode == "all" and len(good) < len(needs.on):
        missed = next(i for i in needs.on if i not in good)
        state = outcomes[missed].state if missed in outcomes else "expired"
        return "step_before_failed", f"task {missed} before it is {state}"
    if needs.when is None:
        return None
    first = outcomes.get(needs.on[0])
    if first is None or first.result is None:
        return "condition_unreadable", "the result that its condition reads is not JSON, or gone"
    if needs.when.holds(orjson.loads(first.result)) is needs.unless:
        shown = f"{needs.when.field} {needs.when.op} {needs.when.value!r}"
        return "condition_false", f"{'' if needs.unless else 'not '}{shown}"
    return None


def previous_of(needs: Dependencies, results: Mapping[str, Result]) -> bytes | None:
    """Return what a task gets of those before it, as JSON."""
    parts = [_part(results.get(task_id)) for task_id in needs.on]
    if needs.take == "list":
        return b"[" + b",".join(parts) + b"]"
    good = [i for i in needs.on if i in results and results[i].state == COMPLETED]
    chosen = needs.on.index(good[0]) if good else 0
    return parts[chosen]


def _part(result: Result | None) -> bytes:
    if result is None:
        return orjson.dumps({"error": {"code": "expired", "message": "its result is forgotten"}})
    if result.state != COMPLETED:
        error = {"code": result.error_code, "message": result.error}
        return orjson.dumps({"error": error})
    if result.kind == JSON:
        return result.data
    return orjson.dumps({"file": result.task_id, "kind": result.kind})


async def decide(live: LiveTasks) -> None:
    """Let those go on whose predecessors ended, or end them too."""
    freed, live.freed = live.freed, []
    for entry in freed:
        if entry.stage != "blocked" or entry.id in live.ending:
            continue
        assert entry.needs is not None
        try:
            outcomes = await live.results.outcomes(entry.needs.on)
        except StoreError:
            live.freed.append(entry)
            continue
        refusal = verdict(entry.needs, outcomes)
        if refusal is None:
            live.backlog.unblock(entry, live.now_s())
        else:
            live.end(entry, CANCELLED, *refusal)


async def load_previous(entries: Sequence[Entry], results: ResultStore) -> None:
    """Give entries what they take of those before them. Raises StoreError."""
    for entry in entries:
        if entry.needs is not None and entry.needs.take != "none":
            outcomes = await results.outcomes(entry.needs.on)
            found = {i: await results.result(o) for i, o in outcomes.items()}
            entry.previous = previous_of(entry.needs, found)
