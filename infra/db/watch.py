"""What queries cost: counts and times of each kind, the slow ones one by one, the pool."""

from __future__ import annotations

import hashlib
import re
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.clock import Clock

_KINDS = 500  # of queries: ours have few dozens
_SLOW_KEPT = 1_000
_LITERALS = re.compile(r"'(?:[^']|'')*'|\b\d+(?:\.\d+)?\b")
_TABLES = re.compile(r"(?:\b(?:FROM|INTO|JOIN|TABLE)|^\s*UPDATE)\s+[`\"]?(\w+)", re.IGNORECASE)
_LISTS = re.compile(r"\((?:\s*(?:\?|%S|:\w+)\s*,?)+\)")
_OWN_TABLE = "slow_query_logs"


@dataclass(slots=True)
class QueryStats:
    """One kind of query, of one process. Durations are seconds, the last time Unix seconds."""

    query_hash: str
    query_template: str
    operation: str
    tables: tuple[str, ...]
    execution_count: int = 0
    failures: int = 0
    total_s: float = 0.0
    min_s: float = float("inf")
    max_s: float = 0.0
    last_at_s: float = 0.0
    slow_count: int = 0
    affected_rows: int = 0


@dataclass(frozen=True, slots=True)
class SlowQuery:
    """One query that took longer than it should; `at_s` is Unix seconds."""

    query_hash: str
    query_template: str
    operation: str
    tables: tuple[str, ...]
    duration_s: float
    affected_rows: int
    at_s: float


@dataclass(slots=True)
class PoolStats:
    """Connections of one process, now and since it started. Waits are seconds."""

    size: int = 0
    most: int = 0
    open: int = 0
    checked_out: int = 0
    peak_checked_out: int = 0
    connects: int = 0
    disconnects: int = 0
    checkouts: int = 0
    checkins: int = 0
    failed: int = 0
    waited_s: float = 0.0
    longest_wait_s: float = 0.0


@dataclass(slots=True)
class StoreReport:
    """What one process knows of its queries and connections."""

    process: str
    queries: list[QueryStats] = field(default_factory=list)
    pool: PoolStats = field(default_factory=PoolStats)


class QueryWatch:
    """Watches one engine. State: soft, of this process; slow queries wait to be written.

    What is written of slow queries is not watched itself, or one would beget the next.
    """

    def __init__(self, clock: Clock, slow_s: float) -> None:
        self._clock = clock
        self._slow_s = slow_s
        self._kinds: dict[str, QueryStats] = {}
        self._templates: dict[str, QueryStats] = {}
        self._slow: deque[SlowQuery] = deque(maxlen=_SLOW_KEPT)
        self.pool = PoolStats()

    def attach(self, engine: AsyncEngine, size: int, most: int) -> None:
        """Follow the queries and connections of an engine."""
        self.pool.size, self.pool.most = size, most
        watched = engine.sync_engine
        event.listen(watched, "before_cursor_execute", self._before)
        event.listen(watched, "after_cursor_execute", self._after)
        event.listen(watched, "handle_error", self._failed)
        event.listen(watched.pool, "connect", self._connected)
        event.listen(watched.pool, "close", self._closed)
        event.listen(watched.pool, "checkout", self._checked_out)
        event.listen(watched.pool, "checkin", self._checked_in)

    def report(self, process: str) -> StoreReport:
        """Return a copy of all that was counted so far."""
        kinds = [replace(stats) for stats in self._kinds.values()]
        return StoreReport(process, kinds, replace(self.pool))

    def take_slow(self) -> list[SlowQuery]:
        """Return the slow queries since the last call, the last 1,000 of them."""
        found = list(self._slow)
        self._slow.clear()
        return found

    def put_back(self, slow: list[SlowQuery]) -> None:
        """Keep slow queries that could not be written."""
        self._slow.extendleft(reversed(slow[-(_SLOW_KEPT - len(self._slow)) :]))

    def reset(self) -> None:
        """Count from zero."""
        self._kinds.clear()
        self._templates.clear()

    def waited(self, seconds: float) -> None:
        """Note how long somebody waited for a connection."""
        self.pool.waited_s += seconds
        self.pool.longest_wait_s = max(self.pool.longest_wait_s, seconds)

    def _before(self, connection: Any, _c: Any, _s: str, _p: Any, context: Any, _m: bool) -> None:
        connection.info["finstage_began_s"] = time.perf_counter()

    def _after(
        self, connection: Any, cursor: Any, statement: str, _p: Any, context: Any, _m: bool
    ) -> None:
        took_s = time.perf_counter() - connection.info.get("finstage_began_s", time.perf_counter())
        rows = max(0, getattr(cursor, "rowcount", 0))
        self.note(statement, took_s, rows)

    def note(self, statement: str, took_s: float, rows: int) -> None:
        """Count one query."""
        stats = self._stats(statement)
        if _OWN_TABLE in stats.tables:
            return
        stats.execution_count += 1
        stats.total_s += took_s
        stats.min_s = min(stats.min_s, took_s)
        stats.max_s = max(stats.max_s, took_s)
        stats.last_at_s = self._clock.time_s()
        stats.affected_rows += rows
        if took_s > self._slow_s:
            stats.slow_count += 1
            self._slow.append(
                SlowQuery(
                    stats.query_hash,
                    stats.query_template,
                    stats.operation,
                    stats.tables,
                    took_s,
                    rows,
                    stats.last_at_s,
                )
            )

    def _failed(self, context: Any) -> None:
        if context.statement:
            self._stats(context.statement).failures += 1
        else:
            self.pool.failed += 1

    def _stats(self, statement: str) -> QueryStats:
        found = self._templates.get(statement)
        if found is None:
            made = _kind(statement)
            found = self._kinds.setdefault(made.query_hash, made)
            if len(self._templates) >= _KINDS:
                self._templates.clear()
            self._templates[statement] = found
        return found

    def _connected(self, *_: Any) -> None:
        self.pool.connects += 1
        self.pool.open += 1

    def _closed(self, *_: Any) -> None:
        self.pool.disconnects += 1
        self.pool.open = max(0, self.pool.open - 1)

    def _checked_out(self, *_: Any) -> None:
        self.pool.checkouts += 1
        self.pool.checked_out += 1
        self.pool.peak_checked_out = max(self.pool.peak_checked_out, self.pool.checked_out)

    def _checked_in(self, *_: Any) -> None:
        self.pool.checkins += 1
        self.pool.checked_out = max(0, self.pool.checked_out - 1)


def template(statement: str) -> str:
    """Return a statement without literals and layout, in capitals: one text for each kind."""
    text = _LITERALS.sub("?", " ".join(statement.split())).upper()
    return _LISTS.sub("(…)", text)


def _kind(statement: str) -> QueryStats:
    text = template(statement)
    digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:12]
    tables = tuple(dict.fromkeys(name.lower() for name in _TABLES.findall(statement)))
    return QueryStats(digest, text[:2_000], text.split(" ", 1)[0][:20], tables)
