"""Every socket of this replica: who wants what, and what waits to be sent to each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson

from actors.indicators.client import LiveWant
from infra.clock import utc
from infra.messages import (
    ACTIONS,
    BARS,
    BROADCAST,
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
)
from serve.ws.backlog import Backlog
from serve.ws.frames import PLAIN, FramesOf, chosen, encoded
from serve.ws.outbox import ALL, Outbox, Taking

_OF_SYMBOLS = (PRICES, EXTENDED, BARS)
_STREAMED = (*_OF_SYMBOLS, TECHNICAL)
KINDS = {"prices": PRICES, "bars": BARS, "technical_analysis": TECHNICAL}
EVERYTHING = "*"
CATEGORY = "category:"

Takers = dict[Outbox, Taking]


class SocketTable:
    """Subscriptions of this replica's sockets, fed by the hub. State: soft.

    A message's frame is made once for each format that is wanted, whatever the number of sockets.
    After a restart of the hub every socket gets a snapshot of what it subscribed to, with the new
    epoch. `category_of(symbol)`: for subscriptions to categories.
    """

    def __init__(
        self,
        backlog_bytes: int = 2**20,
        outbox_bytes: int = 2**20,
        category_of: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self.position = Position("", 0)
        self.going_away = False
        self.connections = 0  # so far
        self.errors = 0
        self._gone_sent = 0  # to sockets that are closed
        self._backlog = Backlog(backlog_bytes)
        self._outbox_bytes = outbox_bytes
        self._category_of = category_of
        self._outboxes: set[Outbox] = set()
        self._by_topic: dict[str, Takers] = {}
        self._last: dict[str, tuple[int, bytes]] = {}
        self._offsets: dict[str, int] = {}  # of the last message of every topic
        self._known: set[str] = set()
        self._last_news = Position("", 0)
        self._grown = asyncio.Event()
        self._updates = 0

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
        names = {topic.partition(":")[2] for topic in own}
        return tuple(name for name in names if not name.startswith((EVERYTHING, CATEGORY)))

    @property
    def live_wants(self) -> tuple[LiveWant, ...]:
        """Return the live indicators that some socket takes."""
        return tuple({want for outbox in self._outboxes for want in outbox.live.values()})

    def stats(self, now_s: float) -> dict[str, Any]:
        """Return what is said of this replica's sockets."""
        return {
            "timestamp": utc(now_s).isoformat(),
            "active_connections": len(self),
            "total_connections": self.connections,
            "total_messages_sent": self._gone_sent + sum(o.sent for o in self._outboxes),
            "total_errors": self.errors,
            "subscribed_symbols": len(self.subscribed),
            "subscription_stats": {
                kind: sum(any(t.startswith(p) for t in o.topics) for o in self._outboxes)
                for kind, p in KINDS.items()
            },
            # Pings are uvicorn's, and a socket that is gone is cleaned up as it goes.
            "background_tasks_active": {"heartbeat": True, "cleanup": True},
        }

    def streamer_stats(self, now_s: float) -> dict[str, Any]:
        """Return what is said of the prices; they are pushed as they come, so no interval is."""
        prices = [topic for topic in self._last if topic.startswith(PRICES)]
        newest = max(prices, key=lambda topic: self._last[topic][0], default=None)
        last = None if newest is None else orjson.loads(self._last[newest][1])["timestamp"]
        return {
            "timestamp": utc(now_s).isoformat(),
            "is_streaming": not self.going_away,
            "monitored_symbols": len(self._known),
            "symbols_with_prices": len(prices),
            "total_updates_sent": self._updates,
            "last_update_time": last,
            "update_interval_seconds": None,
            "price_history_size": sum(1 for topic in self._backlog.topics if topic in self._last),
        }

    def meet(self, symbols: Iterable[str]) -> None:
        """Know symbols before the first price of theirs."""
        self._known.update(PRICES + symbol for symbol in symbols)

    def open(self) -> Outbox:
        """Add a socket."""
        outbox = Outbox(self._outbox_bytes)
        self._outboxes.add(outbox)
        self.connections += 1
        return outbox

    def close(self, outbox: Outbox) -> None:
        """Remove a socket and its subscriptions."""
        if outbox in self._outboxes:
            self._outboxes.discard(outbox)
            self._gone_sent += outbox.sent
        self.unsubscribe(outbox, tuple(outbox.topics))

    # -- subscriptions ------------------------------------------------------------------------

    def subscribe(self, outbox: Outbox, topics: Mapping[str, Taking]) -> list[dict[str, Any]]:
        """Add topics; return the last message of each, as of `position`.

        What comes after that position follows as frames, without a hole.
        """
        self._add(outbox, topics)
        return self.snapshot_of(topics)

    def recover(
        self, outbox: Outbox, topics: Mapping[str, Taking], since: Position
    ) -> Position | None:
        """Add topics, and put what a client missed of them since a position before all else.

        Returns where the client is before it reads on. None, and nothing done, where a part of
        what it missed is not here any more, or is more than the socket may have waiting.
        """
        missed = self._missed(topics, since)
        if missed is None:
            return None
        frames = [
            (message.topic, offset, FramesOf(message, since.epoch, offset)[taking.format], taking)
            for offset, message, taking in missed
        ]
        if sum(len(f) for _, _, f, taking in frames if taking.mode == ALL) > self._outbox_bytes:
            return None
        self._add(outbox, topics)
        for topic, offset, frame, taking in frames:
            outbox.put(topic, offset, frame, taking)
        return since if frames else self.position

    async def reached(self, position: Position, within_s: float) -> None:
        """Wait until this replica is where a client was, who may come from a faster one."""
        try:
            async with asyncio.timeout(within_s):
                while (
                    position.epoch == self.position.epoch
                    and position.offset > self.position.offset
                ):
                    await self._grown.wait()
        except TimeoutError:
            return

    def unsubscribe(self, outbox: Outbox, topics: Sequence[str]) -> None:
        """Remove topics; those not subscribed to are no error."""
        for topic in topics:
            outbox.topics.pop(topic, None)
            outbox.live.pop(topic, None)
            takers = self._by_topic.get(topic)
            if takers is not None:
                takers.pop(outbox, None)
                if not takers:
                    del self._by_topic[topic]
        gone = (t for name in topics for t in self._expanded(name))
        outbox.forget(t for t in gone if not any(self._covers(n, t) for n in outbox.topics))

    def snapshot_of(self, topics: Mapping[str, Taking]) -> list[dict[str, Any]]:
        """Return the last message of each topic that has one, with its offset."""
        epoch = self.position.epoch
        found = []
        for name, taking in topics.items():
            for topic in self._expanded(name):
                if topic in self._last:
                    offset, payload = self._last[topic]
                    body = {"epoch": epoch, "offset": offset} | orjson.loads(payload)
                    found.append(chosen(body, taking.format.fields))
        return found

    def history(self, symbol: str, limit: int) -> list[dict[str, Any]]:
        """Return the last prices of a symbol, as far as they are still here, oldest first."""
        return [orjson.loads(m.payload) for _, m in self._backlog.last(PRICES + symbol, limit)]

    def prices(self, symbols: Sequence[str]) -> dict[str, float]:
        """Return the last prices of symbols, or of all."""
        topics = [PRICES + s for s in symbols] or [t for t in self._last if t.startswith(PRICES)]
        return {
            topic.removeprefix(PRICES): orjson.loads(self._last[topic][1])["current_price"]
            for topic in topics
            if topic in self._last
        }

    def _add(self, outbox: Outbox, topics: Mapping[str, Taking]) -> None:
        for topic, taking in topics.items():
            outbox.topics[topic] = taking
            self._by_topic.setdefault(topic, {})[outbox] = taking
        outbox.forget(topics)

    def _missed(
        self, topics: Mapping[str, Taking], since: Position
    ) -> list[tuple[int, Message, Taking]] | None:
        """Return what came after a position, in order; None where a part of it is gone."""
        if since.epoch != self.position.epoch or since.offset > self.position.offset:
            return None
        wanted: dict[str, Taking] = {SYSTEM: Taking()}
        for name, taking in topics.items():
            for topic in self._expanded(name):
                wanted.setdefault(topic, taking)
                for other in self._related(topic):
                    wanted[other] = _whole(taking)
        if not self._backlog.reaches(since.offset):
            # Of quiet topics nothing was missed though the log has moved on.
            quiet = all(self._offsets.get(topic, 0) <= since.offset for topic in wanted)
            return self._held_back(wanted, since) if quiet else None
        missed = self._backlog.after(since.offset, wanted)
        last = {message.topic: offset for offset, message in missed}
        found = [
            (offset, message, wanted[message.topic])
            for offset, message in missed
            if last[message.topic] == offset or wanted[message.topic].mode == ALL
        ]
        return self._held_back(wanted, since) + found

    def _held_back(
        self, wanted: Mapping[str, Taking], since: Position
    ) -> list[tuple[int, Message, Taking]]:
        """Return what a rate may have held back when later messages had gone already."""
        return [
            (self._last[topic][0], Message(topic, self._last[topic][1]), taking)
            for topic, taking in wanted.items()
            if taking.max_rate_hz and topic in self._last and self._last[topic][0] <= since.offset
        ]

    def _related(self, topic: str) -> Iterable[str]:
        """Return the rare topics that come with one: of a symbol's actions, of its alerts."""
        if topic.startswith(_OF_SYMBOLS):
            return (ACTIONS + topic.partition(":")[2],)
        if topic.startswith(TECHNICAL):
            prefix = TECHNICAL_ALERTS + topic.removeprefix(TECHNICAL) + ":"
            return [other for other in self._backlog.topics if other.startswith(prefix)]
        return ()

    def _expanded(self, name: str) -> Iterable[str]:
        """Return the topics that a name stands for."""
        kind, _, which = name.partition(":")
        if not which.startswith((EVERYTHING, CATEGORY)):
            return (name,)
        return sorted(topic for topic in self._last if self._covers(name, topic))

    def _covers(self, name: str, topic: str) -> bool:
        if name == topic:
            return True
        kind, _, which = name.partition(":")
        if not topic.startswith(kind + ":"):
            return False
        if which == EVERYTHING:
            return True
        symbol = topic.split(":")[1]
        return which.startswith(CATEGORY) and self._category_of(symbol) == which.removeprefix(
            CATEGORY
        )

    # -- news ---------------------------------------------------------------------------------

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Take the state of a hub that was just met; tell the sockets if it is another one."""
        is_first = self.position.epoch == ""
        self.position = snapshot.position
        self._last = {
            m.topic: (offset, m.payload)
            for offset, m in snapshot.messages
            if m.topic.startswith(_STREAMED)
        }
        self._offsets = {message.topic: offset for offset, message in snapshot.messages}
        first = snapshot.position.offset - len(snapshot.history)
        self._backlog.start_at(first)
        for offset, message in enumerate(snapshot.history, start=first + 1):
            self._backlog.add(offset, message)
        self._known.update(topic for topic in self._last if topic.startswith(PRICES))
        self._wake()
        if is_first:
            return
        for outbox in self._outboxes:
            outbox.forget_all()
        for offset, message in snapshot.messages:
            if message.topic == SYSTEM:
                self._tell(Position(snapshot.position.epoch, offset), message)
        for outbox in self._outboxes:
            if outbox.topics:
                frame = encoded(self._resync(outbox), outbox.encoding)
                outbox.put("", 0, frame, Taking())

    def on_batch(self, batch: Batch) -> None:
        """Hand each message to the sockets that want it."""
        epoch = batch.position.epoch
        for offset, message in enumerate(batch.messages, start=batch.first_offset):
            self._backlog.add(offset, message)
            topic = message.topic
            self._offsets[topic] = offset
            if message.payload == ENDED:
                self._last.pop(topic, None)
            elif topic == SYSTEM:
                self._tell(Position(epoch, offset), message)
            elif topic.startswith(BROADCAST):
                self._broadcast(topic.removeprefix(BROADCAST), message, epoch, offset)
            elif topic.startswith(_STREAMED):
                self._updates += 1
                self._last[topic] = (offset, message.payload)
                if topic.startswith(PRICES):
                    self._known.add(topic)
                self._hand(topic, self._takers_of(topic), message, epoch, offset)
            elif topic.startswith(ACTIONS):
                symbol = topic.removeprefix(ACTIONS)
                several = [self._takers_of(prefix + symbol) for prefix in _OF_SYMBOLS]
                takers = {o: t for found in several for o, t in found.items()}
                rare = {outbox: _whole(taking) for outbox, taking in takers.items()}
                self._hand(topic, rare, message, epoch, offset)
            elif topic.startswith(TECHNICAL_ALERTS):
                subject = topic.removeprefix(TECHNICAL_ALERTS).rpartition(":")[0]
                takers = self._takers_of(TECHNICAL + subject)
                rare = {outbox: _whole(taking) for outbox, taking in takers.items()}
                self._hand(topic, rare, message, epoch, offset)
        self.position = batch.position
        self._wake()

    def _broadcast(self, target: str, message: Message, epoch: str, offset: int) -> None:
        prefix = KINDS.get(target, "")
        frames = FramesOf(message, epoch, offset)
        for outbox in self._outboxes:
            if not prefix or any(topic.startswith(prefix) for topic in outbox.topics):
                taking = Taking(ALL, PLAIN._replace(encoding=outbox.encoding))
                outbox.put(message.topic, offset, frames[taking.format], taking)

    def _hand(self, topic: str, takers: Takers, message: Message, epoch: str, offset: int) -> None:
        if not takers:
            return
        frames = FramesOf(message, epoch, offset)
        for outbox, taking in takers.items():
            outbox.put(topic, offset, frames[taking.format], taking)

    def _takers_of(self, topic: str) -> Takers:
        """Return who takes a topic, by its own name or with others."""
        kind, _, rest = topic.partition(":")
        takers = self._by_topic.get(topic, {})
        everything = self._by_topic.get(f"{kind}:{EVERYTHING}")
        if everything:
            takers = everything | takers
        category = self._category_of(rest.partition(":")[0])
        if category is not None:
            some = self._by_topic.get(f"{kind}:{CATEGORY}{category}")
            if some:
                takers = some | takers
        return takers

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    def _tell(self, place: Position, message: Message) -> None:
        """Give news of the service to every socket, once, be it from a batch or a snapshot."""
        if place == self._last_news:
            return
        self._last_news = place
        self.going_away = orjson.loads(message.payload).get("event") == GOING_AWAY
        frames = FramesOf(message, place.epoch, place.offset)
        for outbox in self._outboxes:
            taking = Taking()
            format_ = taking.format._replace(encoding=outbox.encoding)
            outbox.put(SYSTEM, place.offset, frames[format_], taking)

    def _resync(self, outbox: Outbox) -> dict[str, Any]:
        topics = dict(sorted(outbox.topics.items()))
        return {
            "type": "subscription",
            "action": "snapshot",
            "recovered": False,
            "epoch": self.position.epoch,
            "offset": self.position.offset,
            "snapshot": self.snapshot_of(topics),
            "message": "a new epoch began; this snapshot takes the place of what was missed",
        }


def _whole(taking: Taking) -> Taking:
    """Return how something rare is taken: all of it, with all its fields."""
    return Taking(ALL, taking.format._replace(fields=None))
