"""The replica that answers REST: what it holds, and how it starts."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time

from fastapi import FastAPI

from actors.alerts.client import AlertClient
from actors.feed.client import FeedClient
from actors.hub.client import HubClient, HubReader
from actors.indicators.client import IndicatorClient
from actors.monitor.client import MonitorClient
from actors.telemetry.client import TelemetryClient
from infra.caches.in_loop import InLoop
from infra.caches.named import caches
from infra.clock import SystemClock
from infra.db.store import open_store
from infra.directives import following
from infra.errors import FinstageError, StoreError
from infra.settings import Settings
from infra.sources.facts import source_facts
from infra.universe import load_universe
from pipelines.queue.client import TaskClient
from pipelines.registry import load_modules
from pipelines.scheduler.client import SchedulerClient
from serve.edge.front import Site, open_site
from serve.edge.last_good import LastGood
from serve.edge.near import NearCache
from serve.edge.trials import Trials
from serve.replicas.base import Replica
from serve.rest.app import create_api
from serve.rest.prefetch import Prefetch
from serve.rest.questions import quick_answer
from serve.rest.services import Services

logger = logging.getLogger(__name__)

_TICK_S = 0.5
_REPORT_S, _ASKED_S = 2.0, 30.0
_PATIENCE = 10  # times the hub's batch: REST is not pushed


class Api(Replica):
    """REST and pages, at `/`. State: the near cache, soft."""

    role = "api"

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it
        await self.start(settings)
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
            telemetry=TelemetryClient(settings.actor_wait_s),
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
        self.keep(self._reader.run())
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
        self.keep(self._tick())
        self.keep(self._report(MonitorClient(1.0)))

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
                    await monitor.experiments.take(tallies)
                if time.monotonic() - asked_s >= _ASKED_S:
                    asked_s = time.monotonic()
                    if asked := self._near.take_asked():
                        await monitor.tuning.take_asked(asked)
            except FinstageError as error:
                logger.info("replica.unreported", extra={"reason": error.code})
