"""Which task runs next, and which waits for what; time is given, nothing runs here."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pipelines.submission import Dependencies, TaskPriority

Stage = Literal["blocked", "delayed", "ready", "claimed", "running", "ended"]

LONGEST_PAUSE_S = 3_600.0
_AGED_EVERY = 8  # one start in so many goes to who waited longest


@dataclass(slots=True, eq=False)
class Entry:
    """What the queue knows of a task that has not ended. Times are Unix seconds."""

    id: str
    seq: int
    name: str
    target: str
    priority: int
    max_retries: int
    retry_delay_s: float
    timeout_s: float | None
    created_s: float
    available_s: float
    stage: Stage = "ready"
    tries: int = 0
    losses: int = 0
    ready_s: float = 0.0
    waits_for: int = 0
    needs: Dependencies | None = None
    arguments: bytes | None = None
    code: bytes | None = None
    previous: bytes | None = None
    unique_key: str | None = None
    parent_id: str | None = None
    graph_id: str | None = None
    has_webhook: bool = False
    last_error: str | None = None
    started_s: float | None = None
    worker: str | None = None
    progress: float = 0.0
    message: str = ""
    ending: str | None = None  # why a running one is being stopped: cancel, timeout or drain

    def __lt__(self, other: Entry) -> bool:
        """Compare by arrival, for heaps in which one stands twice."""
        return self.seq < other.seq

    @property
    def state(self) -> str:
        """Return the state in the words of the API."""
        if self.stage == "running":
            return "running"
        return "retrying" if self.tries > self.losses and self.stage != "claimed" else "pending"


class Backlog:
    """The tasks of one queue that have not ended.

    Strictly by priority, within one by order of arrival; and one start in eight goes to the task
    that has been ready longest, where that is over `ageing_s`: so nothing starves, and what is
    urgent waits for one more at most.
    """

    def __init__(self, ageing_s: float = 60.0, draws: random.Random | None = None) -> None:
        self._ageing_s = ageing_s
        self._draws = draws or random.Random()
        self._entries: dict[str, Entry] = {}
        self._ready: list[list[tuple[int, Entry]]] = [[] for _ in TaskPriority]
        self._claimed: list[tuple[int, int, Entry]] = []
        self._delayed: list[tuple[float, int, Entry]] = []
        self._dependents: dict[str, list[Entry]] = {}
        self._by_key: dict[str, str] = {}
        self._children: dict[str, set[str]] = {}
        self._starts = 0
        self.stages: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._entries

    def get(self, task_id: str) -> Entry | None:
        """Return a task that has not ended, or None."""
        return self._entries.get(task_id)

    def of_key(self, unique_key: str) -> str | None:
        """Return the task that has this key and has not ended, or None."""
        return self._by_key.get(unique_key)

    def children(self, task_id: str) -> list[Entry]:
        """Return the tasks that a task submitted and that have not ended."""
        return [self._entries[child] for child in self._children.get(task_id, ())]

    def of_graph(self, graph_id: str) -> list[Entry]:
        """Return the tasks of a graph that have not ended."""
        return [entry for entry in self._entries.values() if entry.graph_id == graph_id]

    def running(self) -> list[Entry]:
        """Return the tasks that were handed to Ray."""
        return [entry for entry in self._entries.values() if entry.stage == "running"]

    # -- in ---------------------------------------------------------------------------------

    def add(self, entry: Entry, now_s: float, waits_for: Iterable[str] = ()) -> None:
        """Take a task; it waits for those of `waits_for` that have not ended.

        One whose id is here already stays as it is: a task runs once, however often it comes.
        """
        if entry.id in self._entries:
            return
        self._entries[entry.id] = entry
        self.stages[entry.stage] += 1
        if entry.unique_key is not None:
            self._by_key[entry.unique_key] = entry.id
        if entry.parent_id is not None:
            self._children.setdefault(entry.parent_id, set()).add(entry.id)
        before = [task_id for task_id in dict.fromkeys(waits_for) if task_id in self._entries]
        for task_id in before:
            self._dependents.setdefault(task_id, []).append(entry)
        entry.waits_for = len(before)
        if before:
            self._to(entry, "blocked")
        else:
            self._place(entry, now_s)

    def hold(self, entry: Entry) -> None:
        """Keep a task from running until it is unblocked, or ends."""
        self._to(entry, "blocked")

    def unblock(self, entry: Entry, now_s: float) -> None:
        """Let a task go on whose predecessors all ended."""
        self._place(entry, now_s)

    def _place(self, entry: Entry, now_s: float) -> None:
        if entry.available_s > now_s:
            self._to(entry, "delayed")
            heapq.heappush(self._delayed, (entry.available_s, entry.seq, entry))
            return
        entry.ready_s = now_s
        self._to(entry, "ready")
        heapq.heappush(self._ready[entry.priority], (entry.seq, entry))

    # -- out --------------------------------------------------------------------------------

    def wake(self, now_s: float) -> float:
        """Let those go on whose time has come; return when the next one's comes."""
        while self._delayed:
            at_s, _, entry = self._delayed[0]
            if entry.stage == "delayed" and entry.available_s == at_s:
                if at_s > now_s:
                    return at_s
                self._place(entry, now_s)
            heapq.heappop(self._delayed)
        return float("inf")

    def claim(self, most: int, now_s: float) -> list[Entry]:
        """Return what runs next, to be noted as started in the store before it is handed out."""
        self.wake(now_s)
        found: list[Entry] = []
        while len(found) < most and (entry := self._pick(now_s)) is not None:
            self._to(entry, "claimed")
            found.append(entry)
        return found

    def claim_urgent(self, most: int) -> list[Entry]:
        """Return what is more urgent than all that was noted already, however much that is."""
        found: list[Entry] = []
        first = self._claimed[0][0] if self._claimed else len(self._ready)
        for priority in range(first):
            heap = self._ready[priority]
            while len(found) < most and (entry := _head(heap)) is not None:
                heapq.heappop(heap)
                self._to(entry, "claimed")
                found.append(entry)
        return found

    def unclaim(self, entries: Iterable[Entry], now_s: float) -> None:
        """Put back what could not be noted as started."""
        for entry in entries:
            if entry.stage == "claimed":
                self._place(entry, now_s)

    def unclaim_all(self, now_s: float) -> list[Entry]:
        """Put back all that was noted but not handed out; return it."""
        entries = [entry for _, _, entry in self._claimed if entry.stage == "claimed"]
        self.unclaim(entries, now_s)
        return entries

    def noted(self, entries: Iterable[Entry]) -> None:
        """Let what was noted as started be handed out."""
        for entry in entries:
            if entry.stage == "claimed":
                heapq.heappush(self._claimed, (entry.priority, entry.seq, entry))

    def next_to_run(self) -> Entry | None:
        """Return the first of what was noted, which counts as running from here on; or None."""
        while self._claimed:
            entry = heapq.heappop(self._claimed)[2]
            if entry.stage == "claimed":
                self._to(entry, "running")
                return entry
        return None

    def _pick(self, now_s: float) -> Entry | None:
        heads = [entry for heap in self._ready if (entry := _head(heap)) is not None]
        if not heads:
            return None
        chosen = heads[0]
        self._starts += 1
        if self._starts % _AGED_EVERY == 0:
            oldest = min(heads, key=lambda entry: entry.ready_s)
            if now_s - oldest.ready_s > self._ageing_s:
                chosen = oldest
        heapq.heappop(self._ready[chosen.priority])
        return chosen

    # -- ends -------------------------------------------------------------------------------

    def again(self, entry: Entry, at_s: float, now_s: float) -> None:
        """Let a task that did not end well run again, from a time on."""
        entry.available_s = at_s
        entry.started_s = entry.worker = entry.ending = None
        entry.progress, entry.message = 0.0, ""
        self._place(entry, now_s)

    def end(self, entry: Entry) -> list[Entry]:
        """Forget a task; return those that waited for it and now wait for nothing."""
        self._to(entry, "ended")
        del self._entries[entry.id]
        if entry.unique_key is not None and self._by_key.get(entry.unique_key) == entry.id:
            del self._by_key[entry.unique_key]
        if entry.parent_id in self._children:
            self._children[entry.parent_id].discard(entry.id)
            if not self._children[entry.parent_id]:
                del self._children[entry.parent_id]
        free = []
        for dependent in self._dependents.pop(entry.id, ()):
            dependent.waits_for -= 1
            if dependent.waits_for == 0 and dependent.stage == "blocked":
                free.append(dependent)
        return free

    def pause_s(self, entry: Entry) -> float:
        """Return how long to wait before the next try: exponential, with full jitter."""
        failures = max(1, entry.tries - entry.losses)
        longest_s = min(LONGEST_PAUSE_S, entry.retry_delay_s * 2.0 ** min(failures - 1, 60))
        return self._draws.uniform(0.0, longest_s)

    def _to(self, entry: Entry, stage: Stage) -> None:
        self.stages[entry.stage] -= 1
        entry.stage = stage
        self.stages[stage] += 1


def _head(heap: list[tuple[int, Entry]]) -> Entry | None:
    """Return the first that is still ready; those that went another way leave."""
    while heap:
        entry = heap[0][1]
        if entry.stage == "ready":
            return entry
        heapq.heappop(heap)
    return None
