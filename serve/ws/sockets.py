"""Every client of this replica: who wants what, and what waits to be sent to each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from actors.indicators.client import LiveWant
from infra.clock import utc
from infra.messages import (
    ACTIONS,
    ALERTS,
    BARS,
    EXTENDED,
    GOING_AWAY,
    LEAVING,
    PERFORMANCE,
    PRICES,
    SERVICE_ALERT,
    SYSTEM,
    TASKS,
    TECHNICAL,
    TECHNICAL_ALERTS,
    Batch,
    Kind,
    Message,
    Position,
    Snapshot,
    hand,
    object_of,
)
from infra.metrics import STAGE_SECONDS
from serve.ws.backlog import Backlog
from serve.ws.frames import PLAIN, Format, FramesOf, chosen, encoded
from serve.ws.outbox import ALL, Outbox, Taking
from serve.ws.shelf import AlertShelf, number_of
from serve.ws.takers import CATEGORY, EVERYTHING, Group, Takers

_OF_SYMBOLS = (PRICES, EXTENDED, BARS)
_STREAMED = frozenset({Kind.PRICES, Kind.EXTENDED, Kind.BARS, Kind.TECHNICAL})
_KEPT = _STREAMED | {Kind.ALERTS}  # of which the last message is what a subscription begins with
KINDS = {
    "prices": PRICES,
    "bars": BARS,
    "technical_analysis": TECHNICAL,
    "alerts": ALERTS,
    "tasks": TASKS,
    "performance": PERFORMANCE,
}


class SocketTable:
    """Subscriptions of this replica's clients, fed by the hub. State: soft.

    A message's frame is made once for each format that is wanted, whatever the number of sockets,
    and put into each outbox; at the end of a batch every outbox that got something is told, once.
    After a restart of the hub every client gets a snapshot of what it subscribed to, with the new
    epoch. `category_of(symbol)`: for subscriptions to categories. `replica_id`: by which this one
    is told to let its clients go, when another takes its place.
    """

    def __init__(
        self,
        backlog_bytes: int = 2**20,
        outbox_bytes: int = 2**20,
        category_of: Callable[[str], str | None] = lambda _: None,
        replica_id: str = "",
    ) -> None:
        self.position = Position("", 0)
        self.going_away = False
        self.connections = 0  # so far
        self.errors = 0
        self._gone_sent = 0  # to sockets that are closed
        self._backlog = Backlog(backlog_bytes)
        self._shelf = AlertShelf()
        self._outbox_bytes = outbox_bytes
        self._outboxes: set[Outbox] = set()
        self._takers = Takers(category_of)
        self._touched: dict[Outbox, None] = {}
        self._last: dict[str, tuple[int, bytes]] = {}
        self._offsets: dict[str, int] = {}  # of the last message of every topic
        self._known: set[str] = set()
        self._last_news = Position("", 0)
        self._news = (SYSTEM, LEAVING + replica_id)
        self._grown = asyncio.Event()
        self._updates = 0

    def __len__(self) -> int:
        return len(self._outboxes)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return the symbols that prices were ever told of; a new epoch forgets none."""
        return tuple(topic.removeprefix(PRICES) for topic in self._known)

    def knows(self, symbol: str) -> bool:
        """Return whether a price of the symbol was ever told, or it was met."""
        return PRICES + symbol in self._known

    @property
    def knows_any(self) -> bool:
        """Return whether anything is known: before the first price nothing can be said."""
        return bool(self._known)

    @property
    def subscribed(self) -> tuple[str, ...]:
        """Return the symbols of which some client takes prices or bars."""
        own = (topic for topic in self._takers if topic.startswith(_OF_SYMBOLS))
        names = {topic.partition(":")[2] for topic in own}
        return tuple(name for name in names if not name.startswith((EVERYTHING, CATEGORY)))

    @property
    def live_wants(self) -> tuple[LiveWant, ...]:
        """Return the live indicators that some client takes."""
        return tuple({want for outbox in self._outboxes for want in outbox.live.values()})

    @property
    def sent(self) -> int:
        """Return how many frames were sent so far."""
        return self._gone_sent + sum(outbox.sent for outbox in self._outboxes)

    def stats(self, now_s: float) -> dict[str, Any]:
        """Return what is said of this replica's clients."""
        return {
            "timestamp": utc(now_s).isoformat(),
            "active_connections": len(self),
            "total_connections": self.connections,
            "total_messages_sent": self.sent,
            "total_errors": self.errors,
            "subscribed_symbols": len(self.subscribed),
            "subscription_stats": {
                kind: sum(any(t.startswith(p) for t in o.topics) for o in self._outboxes)
                for kind, p in KINDS.items()
            },
            # Pings are the server's, and a socket that is gone is cleaned up as it goes.
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
        """Add a client."""
        outbox = Outbox(self._outbox_bytes)
        self._outboxes.add(outbox)
        self.connections += 1
        return outbox

    def close(self, outbox: Outbox) -> None:
        """Remove a client and its subscriptions."""
        if outbox in self._outboxes:
            self._outboxes.discard(outbox)
            self._gone_sent += outbox.sent
        for topic in tuple(outbox.topics):
            self._takers.remove(outbox, topic)

    # -- subscriptions ------------------------------------------------------------------------

    def subscribe(
        self, outbox: Outbox, topics: Mapping[str, Taking], after_alert: int | None = None
    ) -> list[dict[str, Any]]:
        """Add topics; return the last message of each, as of `position`; see `snapshot_of`.

        What comes after that position follows as frames, without a hole.
        """
        self._add(outbox, topics)
        return self.snapshot_of(topics, after_alert)

    def recover(
        self, outbox: Outbox, topics: Mapping[str, Taking], since: Position, after_alert: int = 0
    ) -> Position | None:
        """Add topics, and put what a client missed of them since a position before all else.

        Alerts up to the number `after_alert`, and those told before that position, it has, though
        the hub was told of them again.
        Returns where the client is before it reads on. None, and nothing done, where a part of
        what it missed is not here any more, or is more than the socket may have waiting.
        """
        missed = self._missed(topics, since)
        if missed is None:
            return None
        after_alert = max(after_alert, self._shelf.before(since.offset + 1))
        frames = [
            (message.topic, FramesOf(message, since.epoch, offset)[taking.format], taking)
            for offset, message, taking in missed
            if not (message.topic.startswith(ALERTS) and number_of(message) <= after_alert)
        ]
        total = sum(len(frame.payload) for _, frame, taking in frames if taking.mode == ALL)
        if total > self._outbox_bytes:
            return None
        self._add(outbox, topics)
        for topic, frame, taking in frames:
            outbox.put(topic, frame, taking)
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
            self._takers.remove(outbox, topic)
            outbox.live.pop(topic, None)
        if not outbox.is_empty:
            gone = (t for name in topics for t in self._expanded(name))
            covers = self._takers.covers
            outbox.forget(t for t in gone if not any(covers(n, t) for n in outbox.topics))

    def snapshot_of(
        self, topics: Mapping[str, Taking], after_alert: int | None = None
    ) -> list[dict[str, Any]]:
        """Return the last message of each topic that has one, with its offset.

        With `after_alert`, of alerts all that came after this number, as far as they are here.
        """
        epoch = self.position.epoch
        found = []
        for name, taking in topics.items():
            if after_alert is not None and name.startswith(ALERTS):
                continue
            for topic in self._expanded(name):
                if topic in self._last:
                    offset, payload = self._last[topic]
                    body = {"epoch": epoch, "offset": offset} | orjson.loads(payload)
                    found.append(chosen(body, taking.format.fields))
        return found if after_alert is None else found + self._alerts_of(topics, after_alert)

    def _alerts_of(self, topics: Mapping[str, Taking], after_alert: int) -> list[dict[str, Any]]:
        place = {"epoch": self.position.epoch, "offset": self.position.offset}
        found = []
        for message in self._shelf.after(after_alert):
            taken = (topics[n] for n in self._takers.names_of(message.topic) if n in topics)
            taking = next(taken, None)
            if taking is not None:
                found.append(chosen(place | orjson.loads(message.payload), taking.format.fields))
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
        self._takers.add(outbox, topics)
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
        which = name.partition(":")[2]
        if not which.startswith((EVERYTHING, CATEGORY)) and not name.startswith(ALERTS):
            return (name,)
        topics = self._offsets if name.startswith((TASKS, PERFORMANCE)) else self._last
        return sorted(topic for topic in topics if self._takers.covers(name, topic))

    # -- news ---------------------------------------------------------------------------------

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Take the state of a hub that was just met; tell the clients if it is another one."""
        is_first = self.position.epoch == ""
        given = {outbox: self._given_alerts(outbox) for outbox in self._outboxes}
        if snapshot.position.epoch != self.position.epoch:
            self._shelf.new_epoch()
        self.position = snapshot.position
        self._last, self._offsets = {}, {}
        first = snapshot.position.offset - len(snapshot.history)
        self._backlog.start_at(first)
        alerts: dict[int, Message] = {}
        for offset, message in snapshot.messages:
            hand(message, self._keep_last, offset, alerts)
        for offset, message in enumerate(snapshot.history, start=first + 1):
            hand(message, self._keep_history, offset, alerts)
        for offset, message in sorted(alerts.items()):
            self._shelf.add(offset, message)
        self._known.update(topic for topic in self._last if topic.startswith(PRICES))
        self._wake()
        if not is_first:
            self._resync(snapshot, given)

    def _given_alerts(self, outbox: Outbox) -> int:
        """Return the number of the last alert that a client was sent, or does not wait for."""
        waiting = outbox.first_offset(ALERTS)
        return self._shelf.newest if waiting is None else self._shelf.before(waiting)

    def _keep_last(
        self, kind: Kind, message: Message, offset: int, alerts: dict[int, Message]
    ) -> None:
        """Take the last message of a topic; an alert is put among `alerts` too."""
        _check(kind, message)
        self._offsets[message.topic] = offset
        if kind is Kind.ALERTS:
            alerts[offset] = message
        if kind in _KEPT:
            self._last[message.topic] = (offset, message.payload)

    def _keep_history(
        self, kind: Kind, message: Message, offset: int, alerts: dict[int, Message]
    ) -> None:
        """Take a message for who comes back; who was away has nothing of the end of a topic."""
        if kind is Kind.ENDED:
            return
        _check(kind, message)
        if kind is Kind.ALERTS:
            alerts[offset] = message
        self._backlog.add(offset, message)

    def _resync(self, snapshot: Snapshot, given: Mapping[Outbox, int]) -> None:
        """Give each client a snapshot in the place of what it missed."""
        for outbox in self._outboxes:
            outbox.forget_all()
        for offset, message in snapshot.messages:
            hand(message, self._take_news, Position(snapshot.position.epoch, offset))
        for outbox in self._outboxes:
            if outbox.topics:
                body = self._new_beginning(outbox, given[outbox])
                outbox.put("", encoded(body, outbox.encoding), Taking())
                self._touched[outbox] = None
        self._announce()

    def on_batch(self, batch: Batch) -> None:
        """Hand each message to the clients that want it."""
        began_s = time.perf_counter()
        epoch = batch.position.epoch
        for offset, message in enumerate(batch.messages, start=batch.first_offset):
            hand(message, self._take, epoch, offset)
        self.position = batch.position
        self._wake()
        self._announce()
        STAGE_SECONDS.labels("write").observe(time.perf_counter() - began_s)

    def _take(self, kind: Kind, message: Message, epoch: str, offset: int) -> None:
        topic = message.topic
        if kind is Kind.ENDED:
            self._last.pop(topic, None)
            self._known.discard(topic)
            return
        _check(kind, message)
        self._backlog.add(offset, message)
        self._offsets[topic] = offset
        if kind in _STREAMED:
            self._updates += 1
            self._last[topic] = (offset, message.payload)
            if kind is Kind.PRICES:
                self._known.add(topic)
            self._hand(self._takers.of(topic), message, epoch, offset)
        else:
            self._take_rare(kind, message, epoch, offset)

    def _take_rare(self, kind: Kind, message: Message, epoch: str, offset: int) -> None:
        topic = message.topic
        which = topic.partition(":")[2]
        match kind:
            case Kind.ALERTS:
                if self._shelf.add(offset, message):
                    self._hand(self._takers.of(topic), message, epoch, offset)
                self._last[topic] = (offset, message.payload)
            case Kind.TASKS:
                self._hand(self._takers.of(topic), message, epoch, offset)
            case Kind.PERFORMANCE:
                self._hand(self._of_performance(topic), message, epoch, offset)
            case Kind.BROADCAST:
                groups = self._by_encoding(self._who_take(KINDS.get(which, "")))
                self._hand(groups, message, epoch, offset)
            case Kind.ACTIONS:
                self._hand_rare([prefix + which for prefix in _OF_SYMBOLS], message, epoch, offset)
            case Kind.TECHNICAL_ALERTS:
                subject = TECHNICAL + which.rpartition(":")[0]
                self._hand_rare([subject], message, epoch, offset)
            case Kind.SYSTEM | Kind.LEAVING:
                self._take_news(kind, message, Position(epoch, offset))

    def _hand_rare(self, topics: Sequence[str], message: Message, epoch: str, offset: int) -> None:
        """Hand a message to who takes one of some topics: all of it, with all its fields."""
        takers = {
            outbox: taking
            for topic in topics
            for taking, outboxes in self._takers.of(topic)
            for outbox in outboxes
        }
        groups: list[Group] = [(_whole(taking), (outbox,)) for outbox, taking in takers.items()]
        self._hand(groups, message, epoch, offset)

    def _of_performance(self, topic: str) -> list[Group]:
        """Return who takes a reading, or an alert about the service: who takes alerts too."""
        groups = self._takers.of(topic)
        if topic == SERVICE_ALERT:
            told = {outbox for _, outboxes in groups for outbox in outboxes}
            groups += self._by_encoding(o for o in self._who_take(ALERTS) if o not in told)
        return groups

    def _who_take(self, prefix: str) -> Iterator[Outbox]:
        """Yield the clients that take something of a kind; without one all clients."""
        for outbox in self._outboxes:
            if not prefix or any(topic.startswith(prefix) for topic in outbox.topics):
                yield outbox

    def _by_encoding(self, outboxes: Iterable[Outbox]) -> list[Group]:
        """Return clients as those who take the whole of a message."""
        found: dict[str, list[Outbox]] = {}
        for outbox in outboxes:
            found.setdefault(outbox.encoding, []).append(outbox)
        return [(Taking(ALL, Format(encoding)), some) for encoding, some in found.items()]

    def _hand(self, groups: Iterable[Group], message: Message, epoch: str, offset: int) -> None:
        frames = FramesOf(message, epoch, offset)
        topic, touched = message.topic, self._touched
        for taking, outboxes in groups:
            frame = None
            for outbox in outboxes:
                if frame is None:
                    frame = frames[taking.format]
                outbox.put(topic, frame, taking)
                touched[outbox] = None

    def _announce(self) -> None:
        """Tell each outbox that got something, once."""
        touched, self._touched = self._touched, {}
        for outbox in touched:
            outbox.on_ready()

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    def _take_news(self, _: Kind, message: Message, place: Position) -> None:
        """Give news of the service to every socket, once, be it from a batch or a snapshot."""
        if message.topic not in self._news or place == self._last_news:
            return
        body = object_of(message)
        self._last_news = place
        self.going_away = body.get("event") == GOING_AWAY
        frames = FramesOf(message, place.epoch, place.offset)
        for outbox in self._outboxes:
            outbox.put(SYSTEM, frames[PLAIN._replace(encoding=outbox.encoding)], Taking())
            self._touched[outbox] = None

    def _new_beginning(self, outbox: Outbox, given_alerts: int) -> dict[str, Any]:
        topics = dict(sorted(outbox.topics.items()))
        return {
            "type": "subscription",
            "action": "snapshot",
            "recovered": False,
            "epoch": self.position.epoch,
            "offset": self.position.offset,
            "snapshot": self.snapshot_of(topics, given_alerts),
            "message": "a new epoch began; this snapshot takes the place of what was missed",
        }


def _check(kind: Kind, message: Message) -> None:
    """Raise MessageInvalid for what is no frame for anybody: before any of it is kept."""
    if kind is Kind.ALERTS:
        number_of(message)
    else:
        object_of(message)


def _whole(taking: Taking) -> Taking:
    """Return how something rare is taken: all of it, with all its fields."""
    return Taking(ALL, taking.format._replace(fields=None))
