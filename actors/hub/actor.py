"""The hub as an actor: publishers never wait for readers, readers long-poll by position."""

from __future__ import annotations

import asyncio
import time
import uuid

from actors.cache.client import CacheClient
from actors.hub.core import HubCore
from actors.runtime import ServiceActor, exposed, report_metrics
from infra.messages import Position, Snapshot, packed_batch, unpacked
from infra.metrics import HUB_HISTORY_BYTES, HUB_MESSAGES
from infra.settings import Settings


class HubActor(ServiceActor):
    """Subscriber fan-out: hands every replica one ordered stream of messages.

    State: soft; a restart empties the history and changes the epoch, and publishers send their
    state again. Delivery: at least once to each reader that keeps its position, in order.
    """

    role = "hub"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._core = HubCore(
            uuid.uuid4().hex,
            settings.hub_history_bytes,
            settings.hub_history_s,
            time.monotonic,
        )
        self._batch_s = settings.batch_ms / 1_000
        self._grown = asyncio.Event()
        self._answered_s: dict[str, float] = {}
        self._run = ""
        self.keep(report_metrics(self.process, CacheClient().report_metrics))

    @exposed
    async def publish(self, text: bytes) -> list[str | int]:
        """Append packed messages; return epoch and offset of the last; wait for no reader."""
        messages = unpacked(text)
        position = self._core.publish(messages)
        HUB_MESSAGES.inc(len(messages))
        HUB_HISTORY_BYTES.labels(self.process).set(self._core.history_bytes)
        self._wake()
        return [position.epoch, position.offset]

    @exposed
    async def start_over(self, run: str) -> str:
        """Begin a new epoch for a new `run` of the source; the same run again changes nothing.

        Returns the epoch. Readers are told by EpochChanged.
        """
        if run != self._run:
            self._run = run
            self._core.start_over(uuid.uuid4().hex)
            self._wake()
        return self._core.epoch

    @exposed
    async def read(
        self, reader: str, epoch: str, offset: int, timeout_s: float, patience: int
    ) -> bytes:
        """Return what came after a position, packed; nothing if nothing did within `timeout_s`.

        Answers at once when `reader` was idle, else collects for `patience` times `batch_ms`
        since its last answer. Raises EpochChanged or OffsetGone: take a snapshot.
        """
        position = Position(epoch, offset)
        if not self._core.after(position, most=1).messages:
            await self._wait(timeout_s)
        due_s = self._answered_s.get(reader, 0.0) + patience * self._batch_s
        early_s = due_s - time.monotonic()
        if early_s > 0:
            await asyncio.sleep(early_s)
        self._answered_s[reader] = time.monotonic()
        return packed_batch(self._core.after(position))

    @exposed
    async def snapshot(self, history_bytes: int) -> Snapshot:
        """Return the last message of every topic and the position to read on from."""
        return self._core.snapshot(history_bytes)

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    async def _wait(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._grown.wait()
        except TimeoutError:
            return
