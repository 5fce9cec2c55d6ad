"""The sum of all metrics, the watch over memory, and what processes are told to do."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import time
from typing import Any

import psutil
import ray

from actors.reporting import Order, OrderKind, Told, obeyed
from actors.runtime import exposed
from actors.telemetry.memory_book import MemoryBook, Sample
from actors.telemetry.ray_metrics import RayMetrics
from infra.caches.counted import BYTES, ENTRIES, READS
from infra.caches.hit_rate import Reads, all_reads
from infra.clock import Clock
from infra.directives import MEMORY_BASIC, Directives, following, is_on
from infra.memory.usage import memory_use, tree_bytes
from infra.metrics import Families, MetricsTable, ProcessReport, samples_of
from infra.settings import Settings

logger = logging.getLogger(__name__)

_SILENT_AFTER_S = 10.0
_ORDER_WAIT_S = 15.0
_OBEYED_WITHIN_S = 6.0  # a report each two seconds, and what an order takes
_FIRST_SAMPLE_S = 10.0
_TREE_EVERY_S = 10.0


class Telemetry:
    """What processes say of themselves. A part of the CacheActor.

    State: soft; a restart begins without a day's history of memory. Processes report their counts
    again within two seconds.
    """

    def __init__(self, settings: Settings, process: str, clock: Clock) -> None:
        self.settings = settings
        self.process = process
        self._clock = clock
        self._metrics = MetricsTable()
        self._ray = RayMetrics()
        self._notes: dict[str, tuple[float, bytes]] = {}
        self._book = MemoryBook(settings.memory_hit_warn_pct)
        self._tree: tuple[float, dict[int, int]] = float("-inf"), {}
        self._numbers = itertools.count(1)
        self._orders: dict[str, list[Order]] = {}
        self._results: dict[int, dict[str, asyncio.Future[dict[str, Any]]]] = {}

    # -- metrics ----------------------------------------------------------------------------

    @exposed
    async def report_metrics(self, report: ProcessReport) -> Told:
        """Take the counts of one process; return what it is to do."""
        self._metrics.put(report, time.monotonic())
        return Told(tuple(self._orders.pop(report.process, ())), self._news_for(report))

    def _news_for(self, report: ProcessReport) -> Directives | None:
        now = following.now
        return now if now.number and now.number != report.directives else None

    @exposed
    async def direct(self, directives: Directives) -> None:
        """Follow these here, and hand them to every process with its next report."""
        following.take(directives)

    @exposed
    async def metrics_text(self) -> bytes:
        """Return the Prometheus text of all processes, two seconds old, and Ray's, ten."""
        return self._metrics.render() + await self._ray.text(_exporters())

    @exposed
    async def metrics(self, prefix: str) -> Families:
        """Return the samples of all processes, of metrics whose names begin with `prefix`."""
        return self._metrics.families(prefix)

    @exposed
    async def note(self, process: str, text: bytes) -> None:
        """Keep what a process says of itself, until it is silent."""
        self._notes[process] = time.monotonic(), text

    @exposed
    async def notes(self) -> dict[str, bytes]:
        """Return what processes said of themselves lately."""
        oldest_s = time.monotonic() - _SILENT_AFTER_S
        self._notes = {name: n for name, n in self._notes.items() if n[0] > oldest_s}
        return {name: text for name, (_, text) in self._notes.items()}

    @exposed
    async def processes(self) -> tuple[str, ...]:
        """Return the processes that report, as role-pid."""
        return self._metrics.processes

    # -- orders -----------------------------------------------------------------------------

    @exposed(once=True, wait_s=_ORDER_WAIT_S)
    async def order(
        self, kind: OrderKind, cache: str | None = None, aggressive: bool = False
    ) -> dict[str, dict[str, Any] | None]:
        """Let every process do something once; return what came of it, None where none answered.

        Processes are told with their next report, so this takes two seconds.
        """
        results = await self._ordered(kind, cache, aggressive)
        if kind == "shed":
            self._book.optimisations.append(_optimisation(self._clock.time_s(), results, "asked"))
        return results

    async def _ordered(
        self, kind: OrderKind, cache: str | None, aggressive: bool
    ) -> dict[str, dict[str, Any] | None]:
        order = Order(next(self._numbers), kind, cache, aggressive)
        others = [p for p in self._metrics.processes if p != self.process]
        loop = asyncio.get_running_loop()
        waiting = self._results[order.number] = {p: loop.create_future() for p in others}
        for process in others:
            self._orders.setdefault(process, []).append(order)
        own = await obeyed(order)
        if waiting:
            await asyncio.wait(waiting.values(), timeout=_OBEYED_WITHIN_S)
        del self._results[order.number]
        for process in (p for p, f in waiting.items() if not f.done()):
            self._orders.pop(process, None)  # it may have ended
        found = {p: f.result() if f.done() else None for p, f in waiting.items()}
        return {self.process: own, **found}

    @exposed
    async def obeyed(self, process: str, number: int, result: dict[str, Any]) -> None:
        """Take what came of an order in a process."""
        future = self._results.get(number, {}).get(process)
        if future is not None and not future.done():
            future.set_result(result)

    # -- memory -----------------------------------------------------------------------------

    @exposed
    async def memory(self) -> Sample:
        """Return the memory of now; that of the whole tree is up to ten seconds old."""
        return await self._sampled()

    @exposed
    async def memory_book(self) -> MemoryBook:
        """Return what was measured, what was wrong, and what was given back."""
        return self._book

    async def watch_memory(self) -> None:
        """Take a sample every five minutes; shed where the machine is short of memory."""
        await asyncio.sleep(min(_FIRST_SAMPLE_S, self.settings.memory_watch_s))
        while True:
            sample = await self._sampled()
            for worry in self._book.take(sample):
                logger.warning(
                    "memory.worry", extra={"severity": worry.level, "what": worry.message}
                )
            if is_on(MEMORY_BASIC):
                await self._ordered("purge", None, False)
            if self._short_of_memory():
                results = await self._ordered("shed", None, False)
                record = _optimisation(self._clock.time_s(), results, "watch")
                self._book.optimisations.append(record)
            await asyncio.sleep(self.settings.memory_watch_s)

    def _short_of_memory(self) -> bool:
        """Return whether a machine that a process runs on is over the limit."""
        names = self._metrics.processes
        shares = (self._metrics.gauge(p, "finstage_system_memory_percent") for p in names)
        return any(share is not None and share >= self.settings.memory_shed_pct
                   for share in shares)  # fmt: skip

    async def _sampled(self) -> Sample:
        metrics = self._metrics
        processes = {
            p: int(rss) for p in metrics.processes
            if (rss := metrics.gauge(p, "finstage_process_resident_bytes")) is not None
        }  # fmt: skip
        tree = await self._tree_bytes()
        used, total = await asyncio.to_thread(_object_store)
        reads = all_reads(samples_of(metrics.families(READS), READS))
        before = self._book.samples[-1].reads if self._book.samples else Reads()
        return Sample(
            self._clock.time_s(),
            memory_use(),
            processes,
            sum(tree.values()),
            len(tree),
            used,
            total,
            int(_total(metrics.families(ENTRIES), ENTRIES)),
            int(_total(metrics.families(BYTES), BYTES)),
            reads,
            reads.since(before),
            int(sum(metrics.gauge(p, "finstage_process_uncollectable_objects") or 0
                    for p in metrics.processes)),
        )  # fmt: skip

    async def _tree_bytes(self) -> dict[int, int]:
        at_s, found = self._tree
        if time.monotonic() - at_s > _TREE_EVERY_S:
            found = await asyncio.to_thread(lambda: tree_bytes(_root()))
            self._tree = time.monotonic(), found
        return found


def _root() -> psutil.Process:
    """Return the process that all of the service's on this machine come from."""
    raylet = psutil.Process(os.getppid())
    with contextlib.suppress(psutil.Error):
        parent = raylet.parent()
        if parent is not None and parent.pid > 1:
            return parent
    return raylet


def _exporters() -> list[str]:
    """Return where the nodes tell Ray's own metrics."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    return [f"http://{n['NodeManagerAddress']}:{n['MetricsExportPort']}/metrics" for n in alive]


def _object_store() -> tuple[int, int]:
    """Return used and total bytes of Ray's shared memory, of all nodes."""
    total = ray.cluster_resources().get("object_store_memory", 0.0)
    free = ray.available_resources().get("object_store_memory", total)
    return int(total - free), int(total)


def _total(families: Families, name: str) -> float:
    return sum(value for _, value in samples_of(families, name))


def _optimisation(
    at_s: float, results: dict[str, dict[str, Any] | None], reason: str
) -> dict[str, Any]:
    done = [r for r in results.values() if r is not None]
    return {
        "timestamp": at_s,
        "reason": reason,
        "memory_freed_mb": round(sum(r["memory_freed_mb"] for r in done), 2),
        "estimate_mb": round(sum(r["estimate_mb"] for r in done), 2),
        "processes": results,
    }
