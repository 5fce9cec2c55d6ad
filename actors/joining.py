"""Let the caches of a process be those of the service that it joined."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from typing import Any

from actors.cache.client import ActorLevel, CacheClient
from actors.hub.client import HubClient, follow_changes
from actors.plain import portal, run_there
from actors.reporting import report_metrics
from actors.telemetry.client import TelemetryClient
from infra.caches.base import SharedLevel
from infra.caches.catalogue import parsed_specs
from infra.caches.layered import SyncShared
from infra.caches.named import caches
from infra.caches.redis_level import RedisLevel
from infra.errors import ActorError

logger = logging.getLogger(__name__)

_JOINED_WITHIN_S = 2.0
_ASK_AGAIN_S = 0.5

_working: list[Future[Any]] = []


def shared_level(backend: str) -> SharedLevel | None:
    """Return the level that a setting names: `actor`, `memory` (none), or a Redis URL."""
    if backend == "memory":
        return None
    return ActorLevel(CacheClient(1.0)) if backend == "actor" else RedisLevel(backend)


def join_caches(role: str) -> None:
    """Share the caches of this process, a worker or driver in Ray, once the first is used.

    From then on it follows the hub, so that nothing is given that is older than the newest data,
    and reports its figures and memory as the service's own processes do.
    """
    caches.on_first_use(partial(_join, f"{role}-{os.getpid()}"))


def part_caches() -> None:
    """Share nothing any more: this process leaves the service."""
    caches.on_first_use(None)
    while _working:
        _working.pop().cancel()
    caches.attach(None)
    caches.changes.part()


def _join(process: str) -> None:
    if _working:
        return
    work: Callable[..., Any] = _take_part
    ready: Future[None] = Future()
    caches.changes.follow()
    _working.append(portal().start_task_soon(work, process, ready))
    try:
        ready.result(_JOINED_WITHIN_S)
    except FutureTimeout:
        logger.warning("cache.not_shared_yet")


async def _take_part(process: str, ready: Future[None]) -> None:
    client = CacheClient()
    hub = HubClient()
    while True:
        try:
            backend, specs = await client.cache_settings()
            caches.changes.on_news(*await hub.changes(caches.changes.mark, 0.0))
            break
        except ActorError as error:
            logger.warning("cache.not_shared_yet", extra={"reason": error.message})
            await asyncio.sleep(_ASK_AGAIN_S)
    caches.configure(parsed_specs(specs))
    level = shared_level(backend)
    caches.attach(level, None if level is None else SyncShared(level, run_there))
    ready.set_result(None)
    await asyncio.gather(
        follow_changes(hub, caches.changes), report_metrics(process, TelemetryClient())
    )
