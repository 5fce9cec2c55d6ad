"""The feed as others see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.feed.known import Listing
from actors.runtime import ActorClient
from infra.sources.trouble import Trouble

if TYPE_CHECKING:
    from actors.feed.actor import FeedActor as Methods
else:
    Methods = object

__all__ = ["FEED", "FeedClient", "Listing"]

FEED = "finstage-feed"


class FeedClient(ActorClient, Methods):
    """The exposed methods of the FeedActor, from any process."""

    actor_name = FEED
    first_wait_s = 30.0

    async def trouble(self, wait_s: float = 1.0) -> Trouble | None:
        """Return why the source does not answer, None while it does; waits for no restart."""
        trouble: Trouble | None = await self._ask_now("trouble", wait_s=wait_s)
        return trouble
