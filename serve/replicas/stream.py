"""The replica that has the sockets: what it holds, and how it starts.

Apart from the one that answers REST, whose routes cost half a second and 30 MB to import.
"""

from __future__ import annotations

import asyncio
import logging
import time

from ray import serve as ray_serve
from starlette.applications import Starlette

from actors.feed.client import FeedClient
from actors.hub.client import HubClient, HubReader
from actors.indicators.client import IndicatorClient
from actors.telemetry.client import TelemetryClient
from infra.errors import FinstageError
from infra.metrics import FRAMES, SOCKETS
from infra.settings import Settings
from infra.sources.facts import source_facts
from infra.universe import load_universe
from serve.edge.front import Site, open_site
from serve.edge.near import NearCache
from serve.replicas.base import Replica
from serve.ws.app import Upstream, create_stream
from serve.ws.roster import Roster
from serve.ws.sockets import SocketTable

logger = logging.getLogger(__name__)

_TICK_S = 0.5


class Stream(Replica):
    """Sockets, at `/ws`. State: their subscriptions, gone with the replica."""

    role = "stream"

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it
        await self.start(settings)
        history_bytes = settings.hub_history_bytes
        category_of = load_universe().category
        replica_id = ray_serve.get_replica_context().replica_id.unique_id
        self._table = SocketTable(history_bytes, settings.outbox_bytes, category_of, replica_id)
        hub = HubClient(settings.actor_wait_s)
        self.keep(HubReader(hub, self._table, history_bytes=history_bytes).run())
        self.keep(self._tick())
        feed = FeedClient(settings.actor_wait_s)
        is_open = source_facts(settings).is_open
        indicators = IndicatorClient(settings.actor_wait_s)
        upstream = Upstream(
            feed.want if is_open else None, indicators.want_live, hub.publish, feed
        )
        self._roster = Roster(self._table, self.process, TelemetryClient(settings.actor_wait_s))
        self._app = create_stream(settings, self._table, self.gate, upstream, self._roster)
        if is_open:
            self.keep(self._renew(feed))
        self.keep(self._renew_live(indicators))
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
