"""The hub as others see it: publish, and follow the sequence without thinking of restarts."""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Sequence
from typing import Protocol

from actors.runtime import ActorClient
from infra.caches.changes import Changes, Mark
from infra.errors import ActorUnavailable, EpochChanged, OffsetGone
from infra.messages import Batch, Message, Position, Snapshot, packed, unpacked_batch

logger = logging.getLogger(__name__)

HUB = "finstage-hub"
_POLL_S = 1.5


class HubClient(ActorClient):
    """Calls to the hub; each raises ActorUnavailable if it does not come back in time."""

    actor_name = HUB

    async def publish(self, messages: Sequence[Message]) -> Position:
        """Append messages; return the position of the last."""
        epoch, offset = await self._ask("publish", packed(messages))
        return Position(epoch, offset)

    async def start_over(self, run: str) -> str:
        """Begin a new epoch for a new run of the source; return the epoch."""
        epoch: str = await self._ask("start_over", run)
        return epoch

    async def read(
        self, reader: str, position: Position, timeout_s: float, patience: int = 1
    ) -> Batch:
        """Return what came after `position`; raises EpochChanged or OffsetGone."""
        asked = (reader, position.epoch, position.offset, timeout_s, patience)
        return unpacked_batch(await self._ask("read", *asked, wait_s=timeout_s + self._wait_s))

    async def snapshot(self, history_bytes: int = 0) -> Snapshot:
        """Return the last message of every topic and the position to read on from.

        With `history_bytes`, the last messages before that too, as many as go into it.
        """
        snapshot: Snapshot = await self._ask("snapshot", history_bytes)
        return snapshot

    async def changes(self, mark: Mark, timeout_s: float) -> tuple[Mark, dict[str, int]]:
        """Return where the hub is, and the symbols with new data past `mark`, with offsets.

        Waits for some up to `timeout_s`, if there are none.
        """
        epoch, offset, found = await self._ask(
            "changes", mark.epoch, mark.offset, timeout_s, wait_s=timeout_s + self._wait_s
        )
        return Mark(epoch, offset), found


async def follow_changes(client: HubClient, changes: Changes) -> None:
    """Keep `changes` true for ever; a hub that is away is waited for."""
    if not changes.follows:
        changes.follow()
    while True:
        try:
            changes.on_news(*await client.changes(changes.mark, _POLL_S))
        except ActorUnavailable:
            logger.warning("hub.away")
            await asyncio.sleep(random.uniform(0.05, 0.2))


class Follower(Protocol):
    """Who follows the hub."""

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Forget what was known, and take this instead."""

    def on_batch(self, batch: Batch) -> None:
        """Take the next messages, in order, without a hole."""


class HubReader:
    """Follow the hub for ever: a snapshot first, then batches; a new snapshot after a restart.

    With `patience` n the hub collects n times as long between answers: each costs it a third of
    a millisecond, so only who passes messages on to people should ask for every one at once.
    A snapshot comes with so many bytes of history.
    """

    def __init__(
        self, client: HubClient, follower: Follower, patience: int = 1, history_bytes: int = 0
    ) -> None:
        self._client = client
        self._history_bytes = history_bytes
        self.patience = patience  # may be changed at any time
        self._follower = follower
        self._name = uuid.uuid4().hex
        self.heard_s = 0.0  # monotonic seconds at which the hub last answered

    async def run(self) -> None:
        """Never return; a hub that is away is waited for."""
        position: Position | None = None
        while True:
            try:
                position = await self._step(position)
                self.heard_s = time.monotonic()
            except (EpochChanged, OffsetGone) as error:
                logger.info("hub.resync", extra={"reason": error.code})
                position = None
            except ActorUnavailable:
                logger.warning("hub.away")
                await asyncio.sleep(random.uniform(0.05, 0.2))

    async def _step(self, position: Position | None) -> Position:
        if position is None:
            snapshot = await self._client.snapshot(self._history_bytes)
            self._follower.on_snapshot(snapshot)
            return snapshot.position
        batch = await self._client.read(self._name, position, _POLL_S, self.patience)
        if batch.messages:
            self._follower.on_batch(batch)
        return batch.position
