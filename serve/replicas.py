"""The two kinds of replica: what each holds, and how it starts."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import time
from collections.abc import Awaitable

from fastapi import FastAPI
from ray import serve as ray_serve
from starlette.applications import Starlette

from actors.alerts.client import AlertClient
from actors.cache.client import CacheClient
from actors.feed.client import FeedClient
from actors.hub.client import HubClient, HubReader
from actors.indicators.client import IndicatorClient
from actors.monitor.client import MonitorClient
from actors.reporting import report_metrics
from actors.runtime import steady_interpreter
from infra.caches.in_loop import InLoop
from infra.caches.named import caches
from infra.clock import SystemClock
from infra.db.store import open_store
from infra.directives import following
from infra.errors import FinstageError, StoreError
from infra.logs import setup_logs
from infra.metrics import FRAMES, SOCKETS, watch_process
from infra.settings import Settings
from infra.sources.facts import source_facts
from infra.universe import load_universe
from pipelines.queue.client import TaskClient
from pipelines.registry import load_modules
from pipelines.scheduler.client import SchedulerClient
from serve.api import create_api
from serve.edge import Site, open_site
from serve.gate import Gate
from serve.last_good import LastGood
from serve.near import NearCache
from serve.prefetch import Prefetch
from serve.rest.questions import quick_answer
from serve.services import Services
from serve.trials import Trials
from serve.ws.app import Upstream, create_stream
from serve.ws.roster import Roster
from serve.ws.sockets import SocketTable
from serve.ws.wire import use_wire

logger = logging.getLogger(__name__)

_TICK_S = 0.5
_REPORT_S, _ASKED_S = 2.0, 30.0
_PATIENCE = 10  # times the hub's batch: REST is not pushed


class _Replica:
    """What both kinds of replica have: logs, gauges, the hub's news."""

    role: str

    async def _start(self, settings: Settings) -> None:
        self.settings = settings
        self.process = f"{self.role}-{os.getpid()}"
        self.gate = Gate(settings)
        self._tasks: set[asyncio.Task[None]] = set()
        setup_logs(settings.log_dir, self.role, settings.log_level)
        steady_interpreter()
        use_wire(settings.max_message_bytes)
        self._keep(watch_process(self.process))
        self._keep(report_metrics(self.process, CacheClient()))
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
        caches.add(InLoop(self._near, asyncio.get_running_loop()))
        hub, clock = HubClient(settings.actor_wait_s), SystemClock()
        self._services = Services(
            settings=settings,
            source=source_facts(settings),
            universe=load_universe(settings.thresholds_file),
            clock=clock,
            near=self._near,
            feed=FeedClient(settings.actor_wait_s),
            indicators=IndicatorClient(settings.actor_wait_s),
            alerts=AlertClient(settings.actor_wait_s),
            cache=CacheClient(settings.actor_wait_s),
            hub=hub,
            scheduler=SchedulerClient(settings.actor_wait_s),
            tasks=TaskClient(settings.actor_wait_s),
            monitor=MonitorClient(settings.actor_wait_s),
            store=open_store(settings, clock),
            last_good=LastGood(clock),
        )
        caches.add(self._services.last_good)
        load_modules(settings.task_modules)
        self._reader = HubReader(hub, self._near, _PATIENCE)
        self._keep(self._reader.run())
        self._app = create_api(self._services, self.gate)
        self._site = Site(
            self.gate,
            self._near,
            settings.gzip_above_bytes,
            self._app,
            asyncio.get_running_loop(),
            functools.partial(quick_answer, self._services),
            Trials(self.gate.name_of),
        )
        following.follow(self._site.trials.follow)
        following.follow(self._near.follow)
        open_site(self._site)
        self._keep(self._tick())
        self._keep(self._report(MonitorClient(1.0)))

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the application, for what reaches it through Serve."""
        return self._app

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._near.heard_s = self._reader.heard_s
            self._site.flush_counts()
            with contextlib.suppress(StoreError):
                await self._services.store.keep_slow_queries(self.process)

    async def _report(self, monitor: MonitorClient) -> None:
        """Tell the monitor what A/B tests saw and what is asked for; what it misses is lost."""
        prefetch = Prefetch(self._services)
        asked_s = time.monotonic()
        while True:
            await asyncio.sleep(_REPORT_S)
            await prefetch.look()
            try:
                if tallies := self._site.trials.take():
                    await monitor.trials.take(tallies)
                if time.monotonic() - asked_s >= _ASKED_S:
                    asked_s = time.monotonic()
                    if asked := self._near.take_asked():
                        await monitor.tuning.take_asked(asked)
            except FinstageError as error:
                logger.info("replica.unreported", extra={"reason": error.code})


class Stream(_Replica):
    """Sockets, at `/ws`. State: their subscriptions, gone with the replica."""

    role = "stream"

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it
        await self._start(settings)
        history_bytes = settings.hub_history_bytes
        category_of = load_universe().category
        replica_id = ray_serve.get_replica_context().replica_id.unique_id
        self._table = SocketTable(history_bytes, settings.outbox_bytes, category_of, replica_id)
        hub = HubClient(settings.actor_wait_s)
        self._keep(HubReader(hub, self._table, history_bytes=history_bytes).run())
        self._keep(self._tick())
        feed = FeedClient(settings.actor_wait_s)
        is_open = source_facts(settings).is_open
        indicators = IndicatorClient(settings.actor_wait_s)
        upstream = Upstream(
            feed.want if is_open else None, indicators.want_live, hub.publish, feed
        )
        self._roster = Roster(self._table, self.process, CacheClient(settings.actor_wait_s))
        self._app = create_stream(settings, self._table, self.gate, upstream, self._roster)
        if is_open:
            self._keep(self._renew(feed))
        self._keep(self._renew_live(indicators))
        loop = asyncio.get_running_loop()
        open_site(Site(self.gate, NearCache(0, 0, 0.0), 0, self._app, loop))

    def __serve_build_asgi_app__(self) -> Starlette:
        """Return the application, for what reaches it through Serve."""
        return self._app

    async def _tick(self) -> None:
        sent = 0
        while True:
            await asyncio.sleep(_TICK_S)
            SOCKETS.labels(self.process).set(len(self._table))
            sent, before = self._table.sent, sent
            FRAMES.inc(max(0, sent - before))
            if self.settings.stream_replicas > 1:
                await self._roster.tell(time.time())

    async def _renew(self, feed: FeedClient) -> None:
        """Let the ticks of what sockets take go on."""
        while True:
            await asyncio.sleep(self.settings.interest_s / 3)
            try:
                await feed.want(self._table.subscribed)
            except FinstageError as error:
                logger.warning("stream.interest_unsaid", extra={"reason": error.code})

    async def _renew_live(self, indicators: IndicatorClient) -> None:
        """Let the live values that sockets take go on; often, for who restarts forgets them."""
        while True:
            await asyncio.sleep(self.settings.live_grace_s / 12)
            try:
                if wants := self._table.live_wants:
                    await indicators.want_live(wants)
            except FinstageError as error:
                logger.warning("stream.live_unsaid", extra={"reason": error.code})
