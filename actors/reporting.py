"""What every process says of itself every other second, and what it is told in answer."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from infra.caches.counted import count_caches
from infra.caches.named import NamedCaches, caches
from infra.directives import Directives, following
from infra.errors import CacheUnknown, FinstageError
from infra.logs import follow_level
from infra.memory.shedding import shed
from infra.memory.usage import objects
from infra.metrics import OBJECTS, REPORT_EVERY_S, UNCOLLECTABLE, ProcessReport, snapshot

logger = logging.getLogger(__name__)

_OBJECTS_EVERY_S = 300.0


OrderKind = Literal["shed", "purge", "clear"]


@dataclass(frozen=True, slots=True)
class Order:
    """Something that every process is to do once: shed memory, purge or clear its caches."""

    number: int
    kind: OrderKind
    cache: str | None = None
    aggressive: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """What a process is told in answer to its report: things to do once, and new directives."""

    orders: tuple[Order, ...] = ()
    directives: Directives | None = None


class Desk(Protocol):
    """Whom processes report to."""

    async def report_metrics(self, report: ProcessReport) -> Told:
        """Take the counts of a process; return what it is to do."""

    async def obeyed(self, process: str, number: int, result: dict[str, Any]) -> None:
        """Take what came of an order."""


async def report_metrics(process: str, desk: Desk) -> None:
    """Report for ever, and obey; a lost report is made up by the next."""
    count_caches(process)
    following.follow(caches.follow)
    following.follow(follow_level)
    next_objects_s = 0.0
    while True:
        if time.monotonic() >= next_objects_s:
            next_objects_s = time.monotonic() + _OBJECTS_EVERY_S
            _count_objects(process)
        try:
            report = ProcessReport(process, snapshot(), following.now.number)
            told = await desk.report_metrics(report)
            if told.directives is not None:
                following.take(told.directives)
            for order in told.orders:
                result = await obeyed(order)
                if result is not None:
                    await desk.obeyed(process, order.number, result)
        except FinstageError as error:
            logger.info("metrics.unsent", extra={"reason": error.code})
        # Not all at one moment: those that once waited for the cache together would for ever.
        await asyncio.sleep(REPORT_EVERY_S * random.uniform(0.75, 1.25))


async def obeyed(order: Order) -> dict[str, Any] | None:
    """Carry out an order beside the loop; None where the loop was too busy to give way."""
    try:
        return await asyncio.to_thread(obey, order)
    except TimeoutError:
        logger.warning("order.not_obeyed", extra={"kind": order.kind})
        return None


def obey(order: Order, chosen: NamedCaches = caches) -> dict[str, Any]:
    """Carry out an order in this process; return its figures. Blocks while memory is shed."""
    if order.kind == "shed":
        result = shed(order.aggressive, chosen).as_dict()
        logger.info("memory.shed", extra=result)
        return dict(result)
    if order.kind == "purge":
        return {"purged": chosen.purge()}
    try:
        return {"cleared": chosen.clear(order.cache)}
    except CacheUnknown:  # one that other processes have
        return {"cleared": {}}


def _count_objects(process: str) -> None:
    found = objects()
    for generation, count in enumerate(found.generations):
        OBJECTS.labels(process, str(generation)).set(count)
    OBJECTS.labels(process, "permanent").set(found.total - sum(found.generations))
    UNCOLLECTABLE.labels(process).set(found.uncollectable)
