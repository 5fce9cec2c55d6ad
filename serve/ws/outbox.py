"""What one socket still has to read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import NamedTuple

from actors.indicators.client import LiveWant
from serve.ws.frames import JSON, PLAIN, Format, Frame

LATEST, ALL = "latest", "all"
MODES = (LATEST, ALL)


class Taking(NamedTuple):
    """How a socket takes a topic.

    `latest`: of each topic the newest frame, at most `max_rate_hz` a second where that is not 0.
    `all`: every one, in order.
    """

    mode: str = LATEST
    format: Format = PLAIN
    max_rate_hz: float = 0.0


class Outbox:
    """Frames and answers of one socket.

    Answers go first, then all frames by offset, so that a client which was cut off has everything
    up to the last offset that it saw; only what `max_rate_hz` holds back comes later. A newer
    frame of a topic taken as `latest` takes the place of the older one. Bounded: one answer, a
    frame for each topic that is taken as latest, and `limit_bytes` of others; above that the
    socket is `is_slow` and has to be closed.
    """

    def __init__(self, limit_bytes: int = 2**20) -> None:
        self.topics: dict[str, Taking] = {}
        self.live: dict[str, LiveWant] = {}  # by topic, to be wanted again and again
        self.encoding = JSON
        self.is_slow = False
        self.sent = 0
        self._limit_bytes = limit_bytes
        self._answer: Frame | None = None
        self._frames: dict[str | tuple[str, int], tuple[int, Frame]] = {}  # with offsets
        self._bytes = 0  # of frames taken as `all`
        self._number = 0
        self._pause_s: dict[str, float] = {}  # of topics that may not come too often
        self._held_until_s: dict[str, float] = {}
        self._filled = asyncio.Event()
        self._answered = asyncio.Event()

    @property
    def pending_bytes(self) -> int:
        """Return the bytes of frames that none may be left out of."""
        return self._bytes

    def put(self, topic: str, offset: int, frame: Frame, taking: Taking) -> None:
        """Add a frame, in the place of an older one where only the newest is wanted."""
        if taking.mode == LATEST:
            self._frames[topic] = offset, frame
            if taking.max_rate_hz:
                self._pause_s[topic] = 1 / taking.max_rate_hz
            elif self._pause_s:
                self._pause_s.pop(topic, None)
        else:
            self.is_slow = self.is_slow or self._bytes + len(frame) > self._limit_bytes
            if not self.is_slow:
                self._number += 1
                self._bytes += len(frame)
                self._frames[topic, self._number] = offset, frame
        self._filled.set()

    async def answer(self, answer: Frame) -> None:
        """Send an answer before any frame, and wait until the socket took it.

        A subscription's answer carries the snapshot, so no later frame may overtake it.
        """
        self._answer = answer
        self._answered.clear()
        self._filled.set()
        await self._answered.wait()

    async def take(self) -> list[Frame]:
        """Wait until there is something, then return all of it, in the order to send."""
        loop = asyncio.get_running_loop()
        while True:
            await self._filled.wait()
            self._filled.clear()
            frames = [] if self._answer is None else [self._answer]
            self._answer = None
            frames += self._due(loop.time())
            if self._frames:
                self._filled.set()  # what is held back is waited for the next time
            if frames or self.is_slow:
                return frames
            if self._frames:
                await self._until_due(loop)

    def taken(self) -> None:
        """Say that what was taken has been sent."""
        if self._answer is None:
            self._answered.set()

    def forget(self, topics: Iterable[str]) -> None:
        """Drop frames that the client no longer wants."""
        gone = set(topics)
        if not self._frames or not gone:
            return
        for key in [k for k in self._frames if (k if isinstance(k, str) else k[0]) in gone]:
            _, frame = self._frames.pop(key)
            if not isinstance(key, str):
                self._bytes -= len(frame)

    def forget_all(self) -> None:
        """Drop all frames: something else takes their place."""
        self._frames.clear()
        self._bytes = 0

    def _due(self, now_s: float) -> list[Frame]:
        """Return the frames that may leave now, and forget them."""
        if not self._pause_s:
            taken = list(self._frames.values())
            self.forget_all()
        else:
            taken = [self._frames.pop(key) for key in list(self._frames) if self._may(key, now_s)]
            self._bytes = 0
        taken.sort(key=lambda pair: pair[0])
        return [frame for _, frame in taken]

    def _may(self, key: str | tuple[str, int], now_s: float) -> bool:
        """Return whether a frame may leave now, and if so, note when the next of its topic may."""
        if not isinstance(key, str) or key not in self._pause_s:
            return True
        if self._held_until_s.get(key, 0.0) > now_s:
            return False
        self._held_until_s[key] = now_s + self._pause_s[key]
        return True

    async def _until_due(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for the first frame that was held back, or for news."""
        self._filled.clear()
        held = [self._held_until_s.get(k, 0.0) for k in self._frames if isinstance(k, str)]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(min(held)):
                await self._filled.wait()
        self._filled.set()
