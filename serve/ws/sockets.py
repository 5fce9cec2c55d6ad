"""Every socket of this replica: who wants what, and what waits to be sent to each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from actors.indicators.client import LiveWant
from infra.messages import (
    ACTIONS,
    BARS,
    ENDED,
    EXTENDED,
    GOING_AWAY,
    PRICES,
    SYSTEM,
    TECHNICAL,
    TECHNICAL_ALERTS,
    Batch,
    Message,
    Position,
    Snapshot,
    stamped,
)

_OF_SYMBOLS = (PRICES, EXTENDED, BARS)
_STREAMED = (*_OF_SYMBOLS, TECHNICAL)


class Outbox:
    """What one socket still has to read: answers first, then of each topic the newest frame.

    Bounded: one answer, and one frame a topic. Frames go in the order of each topic's oldest
    unread news, so that a rare symbol is not starved by a busy one.
    """

    def __init__(self) -> None:
        self.topics: set[str] = set()
        self.live: dict[str, LiveWant] = {}  # by topic, to be wanted again and again
        self._answer: bytes | None = None
        self._frames: dict[str, bytes] = {}
        self._filled = asyncio.Event()
        self._answered = asyncio.Event()

    def put(self, topic: str, frame: bytes) -> None:
        """Add a frame, in the place of an older one of the same topic."""
        self._frames[topic] = frame
        self._filled.set()

    async def answer(self, answer: bytes) -> None:
        """Send an answer before any frame, and wait until the socket took it.

        A subscription's answer carries the snapshot, so no later frame may overtake it.
        """
        self._answer = answer
        self._answered.clear()
        self._filled.set()
        await self._answered.wait()

    async def take(self) -> list[bytes]:
        """Wait until there is something, then return all of it, in the order to send."""
        await self._filled.wait()
        self._filled.clear()
        answers = [] if self._answer is None else [self._answer]
        frames = list(self._frames.values())
        self._answer = None
        self._frames.clear()
        return answers + frames

    def taken(self) -> None:
        """Say that what was taken has been sent."""
        if self._answer is None:
            self._answered.set()

    def forget(self, topics: Iterable[str]) -> None:
        """Drop frames that the client no longer wants."""
        for topic in topics:
            self._frames.pop(topic, None)


class SocketTable:
    """Subscriptions of this replica's sockets, fed by the hub. State: soft.

    One frame is made for each message whatever the number of sockets. After a restart of the
    hub every socket gets a snapshot of what it subscribed to, with the new epoch.
    """

    def __init__(self) -> None:
        self.position = Position("", 0)
        self.going_away = False
        self._outboxes: set[Outbox] = set()
        self._by_topic: dict[str, set[Outbox]] = {}
        self._last: dict[str, tuple[int, bytes]] = {}
        self._known: set[str] = set()
        self._last_news = Position("", 0)

    def __len__(self) -> int:
        return len(self._outboxes)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return the symbols that prices were ever told of; a new epoch forgets none."""
        return tuple(topic.removeprefix(PRICES) for topic in self._known)

    @property
    def subscribed(self) -> tuple[str, ...]:
        """Return the symbols of which some socket takes prices or bars."""
        own = (topic for topic in self._by_topic if topic.startswith(_OF_SYMBOLS))
        return tuple({topic.partition(":")[2] for topic in own})

    @property
    def live_wants(self) -> tuple[LiveWant, ...]:
        """Return the live indicators that some socket takes."""
        return tuple({want for outbox in self._outboxes for want in outbox.live.values()})

    def meet(self, symbols: Iterable[str]) -> None:
        """Know symbols before the first price of theirs."""
        self._known.update(PRICES + symbol for symbol in symbols)

    def open(self) -> Outbox:
        """Add a socket."""
        outbox = Outbox()
        self._outboxes.add(outbox)
        return outbox

    def close(self, outbox: Outbox) -> None:
        """Remove a socket and its subscriptions."""
        self._outboxes.discard(outbox)
        self.unsubscribe(outbox, tuple(outbox.topics))

    def subscribe(self, outbox: Outbox, topics: Sequence[str]) -> list[dict[str, Any]]:
        """Add topics; return the last message of each, as of `position`.

        What comes after that position follows as frames, without a hole.
        """
        for topic in topics:
            outbox.topics.add(topic)
            self._by_topic.setdefault(topic, set()).add(outbox)
        outbox.forget(topics)
        return self.snapshot_of(topics)

    def unsubscribe(self, outbox: Outbox, topics: Sequence[str]) -> None:
        """Remove topics; those not subscribed to are no error."""
        for topic in topics:
            outbox.topics.discard(topic)
            outbox.live.pop(topic, None)
            takers = self._by_topic.get(topic)
            if takers is not None:
                takers.discard(outbox)
                if not takers:
                    del self._by_topic[topic]
        outbox.forget(topics)

    def snapshot_of(self, topics: Iterable[str]) -> list[dict[str, Any]]:
        """Return the last message of each topic that has one, with its offset."""
        epoch = self.position.epoch
        return [
            {"epoch": epoch, "offset": offset} | orjson.loads(payload)
            for offset, payload in (self._last[t] for t in topics if t in self._last)
        ]

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Take the state of a hub that was just met; tell the sockets if it is another one."""
        is_first = self.position.epoch == ""
        self.position = snapshot.position
        self._last = {
            m.topic: (offset, m.payload)
            for offset, m in snapshot.messages
            if m.topic.startswith(_STREAMED)
        }
        self._known.update(topic for topic in self._last if topic.startswith(PRICES))
        if is_first:
            return
        for offset, message in snapshot.messages:
            if message.topic == SYSTEM:
                self._tell(Position(snapshot.position.epoch, offset), message)
        for outbox in self._outboxes:
            outbox.forget(tuple(outbox.topics))
            if outbox.topics:
                outbox.put("", self._resync_frame(outbox))

    def on_batch(self, batch: Batch) -> None:
        """Hand each message to the sockets that want it."""
        epoch = batch.position.epoch
        for offset, message in enumerate(batch.messages, start=batch.first_offset):
            topic = message.topic
            if message.payload == ENDED:
                self._last.pop(topic, None)
                continue
            if topic.startswith(_STREAMED):
                self._last[topic] = (offset, message.payload)
                if topic.startswith(PRICES):
                    self._known.add(topic)
                takers: Iterable[Outbox] = self._by_topic.get(topic, ())
            elif topic.startswith(ACTIONS):
                symbol = topic.removeprefix(ACTIONS)
                takers = set().union(*(self._by_topic.get(p + symbol, ()) for p in _OF_SYMBOLS))
            elif topic.startswith(TECHNICAL_ALERTS):
                subject = topic.removeprefix(TECHNICAL_ALERTS).rpartition(":")[0]
                takers = self._by_topic.get(TECHNICAL + subject, ())
            elif topic == SYSTEM:
                self._tell(Position(epoch, offset), message)
                continue
            else:
                continue
            if takers:
                frame = stamped(message, epoch, offset)
                for outbox in takers:
                    outbox.put(topic, frame)
        self.position = batch.position

    def _tell(self, place: Position, message: Message) -> None:
        """Give news of the service to every socket, once, be it from a batch or a snapshot."""
        if place == self._last_news:
            return
        self._last_news = place
        self.going_away = orjson.loads(message.payload).get("event") == GOING_AWAY
        frame = stamped(message, place.epoch, place.offset)
        for outbox in self._outboxes:
            outbox.put(SYSTEM, frame)

    def _resync_frame(self, outbox: Outbox) -> bytes:
        body = {
            "type": "subscription",
            "action": "snapshot",
            "recovered": False,
            "epoch": self.position.epoch,
            "offset": self.position.offset,
            "snapshot": self.snapshot_of(sorted(outbox.topics)),
            "message": "a new epoch began; this snapshot takes the place of what was missed",
        }
        return orjson.dumps(body)
