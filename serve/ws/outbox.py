"""What one client still has to get."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from actors.indicators.client import LiveWant
from infra.directives import CONFLATION, following, is_on
from serve.ws.frames import JSON, PLAIN, Format, Frame

LATEST, ALL = "latest", "all"
MODES = (LATEST, ALL)


class Taking(NamedTuple):
    """How a client takes a topic.

    `latest`: of each topic the newest frame, at most `max_rate_hz` a second where that is not 0.
    `all`: every one, in order.
    """

    mode: str = LATEST
    format: Format = PLAIN
    max_rate_hz: float = 0.0


def nobody() -> None:
    """Be told, and do nothing."""


class Outbox:
    """Frames that wait for one client; whoever sends them is told by `on_ready`.

    They leave by offset, so that a client which was cut off has everything up to the last offset
    that it saw; only what `max_rate_hz` holds back comes later. A newer frame of a topic taken as
    `latest` takes the place of the older one. Bounded: a frame for each topic that is taken as
    latest, and `limit_bytes` of others; above that it `is_slow`, and the client has to go.
    """

    __slots__ = (
        "_bytes", "_frames", "_held_until_s", "_limit_bytes", "_number", "_pause_s", "encoding",
        "is_slow", "live", "on_ready", "sent", "topics",
    )  # fmt: skip

    def __init__(self, limit_bytes: int = 2**20) -> None:
        self.topics: dict[str, Taking] = {}
        self.live: dict[str, LiveWant] = {}  # by topic, to be wanted again and again
        self.encoding = JSON
        self.is_slow = False
        self.sent = 0
        self.on_ready: Callable[[], None] = nobody
        self._limit_bytes = limit_bytes
        self._frames: dict[str | tuple[str, int], Frame] = {}
        self._bytes = 0  # of frames taken as `all`
        self._number = 0
        self._pause_s: dict[str, float] = {}  # of topics that may not come too often
        self._held_until_s: dict[str, float] = {}

    @property
    def pending_bytes(self) -> int:
        """Return the bytes of frames that none may be left out of."""
        return self._bytes

    @property
    def is_empty(self) -> bool:
        """Return whether nothing waits."""
        return not self._frames

    def first_offset(self, prefix: str) -> int | None:
        """Return the offset of the first frame that waits of such topics; None without one."""
        topics = ((k if isinstance(k, str) else k[0], frame) for k, frame in self._frames.items())
        return min((f.offset for topic, f in topics if topic.startswith(prefix)), default=None)

    def put(self, topic: str, frame: Frame, taking: Taking) -> None:
        """Add a frame, in the place of an older one where only the newest is wanted."""
        if taking.mode == LATEST and (following.is_plain or self._conflates(frame, taking)):
            self._frames[topic] = frame
            if taking.max_rate_hz:
                self._pause_s[topic] = 1 / taking.max_rate_hz
            elif self._pause_s:
                self._pause_s.pop(topic, None)
        elif self.is_slow or self._bytes + len(frame.payload) > self._limit_bytes:
            self.is_slow = True
        else:
            self._number += 1
            self._bytes += len(frame.payload)
            self._frames[topic, self._number] = frame

    def _conflates(self, frame: Frame, taking: Taking) -> bool:
        """Return whether a newer frame takes the place of an older one.

        With the rule off every frame goes, until so much waits that the client would be slow.
        """
        if is_on(CONFLATION) or taking.max_rate_hz:
            return True
        return self.is_slow or self._bytes + len(frame.payload) > self._limit_bytes

    def take(self, now_s: Callable[[], float]) -> list[Frame]:
        """Return what may leave now, in the order to send, and forget it."""
        if not self._pause_s:
            taken = list(self._frames.values())
            self._frames.clear()
        else:
            at_s = now_s()
            taken = [self._frames.pop(key) for key in list(self._frames) if self._may(key, at_s)]
        self._bytes = 0
        if len(taken) > 1:
            taken.sort(key=_offset_of)
        self.sent += len(taken)
        return taken

    def due_s(self) -> float | None:
        """Return when the first frame that is held back may leave; None if none is."""
        held = [self._held_until_s.get(k, 0.0) for k in self._frames if isinstance(k, str)]
        return min(held, default=None)

    def forget(self, topics: Iterable[str]) -> None:
        """Drop frames that the client no longer wants."""
        gone = set(topics)
        if not self._frames or not gone:
            return
        for key in [k for k in self._frames if (k if isinstance(k, str) else k[0]) in gone]:
            frame = self._frames.pop(key)
            if not isinstance(key, str):
                self._bytes -= len(frame.payload)

    def forget_all(self) -> None:
        """Drop all frames: something else takes their place."""
        self._frames.clear()
        self._bytes = 0

    def _may(self, key: str | tuple[str, int], now_s: float) -> bool:
        """Return whether a frame may leave now, and if so, note when the next of its topic may."""
        if not isinstance(key, str) or key not in self._pause_s:
            return True
        if self._held_until_s.get(key, 0.0) > now_s:
            return False
        self._held_until_s[key] = now_s + self._pause_s[key]
        return True


def _offset_of(frame: Frame) -> int:
    return frame.offset
