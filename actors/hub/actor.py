"""The hub as an actor: publishers never wait for readers, readers long-poll by position."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import deque

from actors.hub.core import HubCore
from actors.reporting import report_metrics
from actors.runtime import ServiceActor, exposed
from actors.telemetry.client import TelemetryClient
from infra.caches.base import CacheStats
from infra.caches.in_loop import InLoop
from infra.caches.named import caches
from infra.directives import Directives, following
from infra.messages import Position, Snapshot, packed_batch, unpacked
from infra.metrics import HUB_HISTORY_BYTES, HUB_MESSAGES, STAGE_SECONDS
from infra.settings import Settings

_TIMED = 256  # publishes that are timed until readers take them


class _History:
    """The hub's history as something that can give memory back."""

    def __init__(self, core: HubCore, limit_bytes: int) -> None:
        self._core = core
        self._limit_bytes = limit_bytes

    def stats(self) -> list[CacheStats]:
        core = self._core
        return [
            CacheStats(
                "hub_history", "history", core.history, bytes=core.history_bytes,
                max_bytes=self._limit_bytes,
            )
        ]  # fmt: skip

    def purge(self) -> dict[str, int]:
        return {}

    def shrink(self, _name: str, max_bytes: int) -> int:
        return self._core.shorten(max_bytes)

    def clear(self, _name: str | None = None) -> dict[str, int]:
        return {}  # no cache: who reads it would miss messages


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
        self._changed = asyncio.Event()
        self._answered_s: dict[str, float] = {}
        self._took: deque[tuple[int, float]] = deque(maxlen=_TIMED)  # offset, and when it came
        following.follow(self._follow)
        self._run = ""
        history = _History(self._core, settings.hub_history_bytes)
        caches.add(InLoop(history, asyncio.get_running_loop()))
        self.keep(report_metrics(self.process, TelemetryClient()))

    @exposed
    async def publish(self, text: bytes) -> list[str | int]:
        """Append packed messages; return epoch and offset of the last; wait for no reader."""
        messages = unpacked(text)
        changed_offset = self._core.changed_offset
        position = self._core.publish(messages)
        if self._core.changed_offset != changed_offset:
            self._tell_changes()
        self._took.append((position.offset, time.monotonic()))
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
            self._took.clear()  # offsets begin again
            self._wake()
            self._tell_changes()
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
        batch = self._core.after(position)
        if batch.messages:
            self._time(offset)
        return packed_batch(batch)

    def _time(self, offset: int) -> None:
        """Note how long the first message past an offset was here, if it came lately."""
        first_s = None
        for last, took_s in reversed(self._took):  # readers are near the end: a step or two
            if last <= offset:
                break
            first_s = took_s
        if first_s is not None:
            STAGE_SECONDS.labels("hub").observe(time.monotonic() - first_s)

    def _follow(self, directives: Directives) -> None:
        batch_ms = directives.batch_ms
        self._batch_s = (self.settings.batch_ms if batch_ms is None else batch_ms) / 1_000

    @exposed
    async def snapshot(self, history_bytes: int) -> Snapshot:
        """Return the last message of every topic and the position to read on from."""
        return self._core.snapshot(history_bytes)

    @exposed
    async def changes(
        self, epoch: str, offset: int, timeout_s: float
    ) -> tuple[str, int, dict[str, int]]:
        """Return the position of now, and the symbols that had new data since the one given.

        Waits for some up to `timeout_s`, if there are none. Of another epoch: all of them.
        """
        position, core = Position(epoch, offset), self._core
        if epoch == core.epoch and core.changed_offset <= offset:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
        return core.position.epoch, core.position.offset, core.changed_after(position)

    def _tell_changes(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    async def _wait(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._grown.wait()
        except TimeoutError:
            return
