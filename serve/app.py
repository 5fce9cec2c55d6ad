"""The only wiring: which actors there are, and the two applications in front of them."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from collections.abc import Awaitable
from typing import Any

import uvicorn
from fastapi import FastAPI
from ray import serve as ray_serve
from ray.serve.api import RunTarget
from starlette.applications import Starlette

from actors.cache.actor import CacheActor
from actors.cache.client import CACHE, CacheClient
from actors.feed.actor import FeedActor
from actors.feed.client import FEED, FeedClient
from actors.hub.actor import HubActor
from actors.hub.client import HUB, HubClient, HubReader
from actors.indicators.actor import IndicatorActor
from actors.indicators.client import INDICATORS, IndicatorClient
from actors.runtime import ActorSpec, report_metrics
from infra.clock import SystemClock
from infra.logs import setup_logs
from infra.metrics import (
    NEAR_CACHE_BYTES,
    SOCKETS,
    watch_process,
)
from infra.settings import Settings
from infra.sources.facts import source_facts
from infra.universe import load_universe
from serve.api import create_api
from serve.edge import Site, open_site
from serve.gate import Gate
from serve.near import NearCache
from serve.services import Services
from serve.ws.app import create_stream
from serve.ws.sockets import SocketTable

logger = logging.getLogger(__name__)

API_APP = "finstage-api"
STREAM_APP = "finstage-stream"
_TICK_S = 0.5


def actor_specs(settings: Settings, started_at_s: float) -> list[ActorSpec]:
    """Return the actors in the order to start them; `started_at_s` is Unix time."""
    return [
        ActorSpec(CACHE, CacheActor, (settings,)),
        ActorSpec(HUB, HubActor, (settings,)),
        ActorSpec(FEED, FeedActor, (settings, started_at_s)),
        ActorSpec(INDICATORS, IndicatorActor, (settings,)),
    ]


def applications(settings: Settings) -> list[RunTarget]:
    """Return the two Serve applications: one ingress each, so that REST never delays a frame."""
    common = {
        "ray_actor_options": {"num_cpus": 0},
        "max_ongoing_requests": 100_000,  # an open socket holds one; our own caps are lower
        "max_queued_requests": -1,
        "graceful_shutdown_timeout_s": 2.0,
        "graceful_shutdown_wait_loop_s": 0.2,
        "logging_config": {"enable_access_log": False},
    }
    api = ray_serve.deployment(ray_serve.ingress()(Api)).options(
        name="Api", num_replicas=settings.api_replicas, **common
    )
    stream = ray_serve.deployment(ray_serve.ingress()(Stream)).options(
        name="Stream", num_replicas=settings.stream_replicas, **common
    )
    return [
        RunTarget(api.bind(settings), name=API_APP, route_prefix="/"),
        RunTarget(stream.bind(settings), name=STREAM_APP, route_prefix="/ws"),
    ]


class _Replica:
    """What both kinds of replica have: logs, gauges, the hub's news."""

    role: str

    async def _start(self, settings: Settings) -> None:
        self.settings = settings
        self.process = f"{self.role}-{os.getpid()}"
        self.gate = Gate(settings)
        self._tasks: set[asyncio.Task[None]] = set()
        setup_logs(settings.log_dir, self.role, settings.log_level)
        _turn_deflate_off(settings.max_message_bytes)
        self._keep(watch_process(self.process))
        self._keep(report_metrics(self.process, CacheClient().report_metrics))
        logger.info("replica.started", extra={"role": self.role})

    def _keep(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            logger.error("replica.broken", exc_info=task.exception())
            os._exit(1)  # Serve starts another: better than one that answers from old data


class Api(_Replica):
    """REST and pages, at `/`. State: the near cache, soft."""

    role = "api"

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it
        await self._start(settings)
        self._near = NearCache(
            settings.near_cache_bytes, settings.near_cache_entries, settings.near_cache_lease_s
        )
        self._site = Site(self.gate, self._near, settings.gzip_above_bytes)
        hub = HubClient(settings.actor_wait_s)
        self._services = Services(
            settings=settings,
            source=source_facts(settings),
            universe=load_universe(),
            clock=SystemClock(),
            near=self._near,
            feed=FeedClient(settings.actor_wait_s),
            indicators=IndicatorClient(settings.actor_wait_s),
            cache=CacheClient(settings.actor_wait_s),
            hub=hub,
        )
        self._reader = HubReader(hub, self._near)
        self._keep(self._reader.run())
        self._keep(self._tick())
        open_site(self._site)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the application, made in the replica."""
        return create_api(self._services, self.gate)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._near.heard_s = self._reader.heard_s
            self._site.flush_counts()
            NEAR_CACHE_BYTES.labels(self.process).set(self._near.bytes)


class Stream(_Replica):
    """Sockets, at `/ws`. State: their subscriptions, gone with the replica."""

    role = "stream"

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it
        await self._start(settings)
        self._table = SocketTable()
        self._keep(HubReader(HubClient(settings.actor_wait_s), self._table).run())
        self._keep(self._tick())
        near = NearCache(0, 0, 0.0)
        open_site(Site(self.gate, near, settings.gzip_above_bytes))

    def __serve_build_asgi_app__(self) -> Starlette:
        """Return the application, made in the replica."""
        return create_stream(self.settings, self._table, self.gate)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            SOCKETS.labels(self.process).set(len(self._table))


def _turn_deflate_off(max_message_bytes: int) -> None:
    """Make the server that Serve is about to start leave frames as they are.

    Deflate compresses every frame again for every socket, and Serve has no option for it; the
    server starts after the deployment's constructor, so its configuration can be made here.
    """
    uvicorn.Config = functools.partial(  # type: ignore[misc,assignment]
        uvicorn.Config, ws_per_message_deflate=False, ws_max_size=4 * max_message_bytes
    )


def run_applications(settings: Settings) -> list[Any]:
    """Deploy both applications and wait until they run."""
    handles: list[Any] = ray_serve.run_many(applications(settings))
    return handles
