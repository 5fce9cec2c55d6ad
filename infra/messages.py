"""What travels through the hub: payloads under a topic, each with its place in one sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgpack

PRICES = "prices:"  # prices:SYMBOL, payload: a price_update
EXTENDED = "extended:"  # extended:SYMBOL, payload: a price_update before or after regular hours
DATA = "data:"  # data:SYMBOL, payload: the data version that indicators answer from; internal
SOURCE_DATA = "source:"  # source:SYMBOL, payload: the data version of the source; internal
BARS = "bars:"  # bars:SYMBOL, payload: a bar_update, the newest minute that closed or was revised
ACTIONS = "actions:"  # actions:SYMBOL, payload: a corporate_action that took effect
# technical_analysis:SYMBOL:INTERVAL, payload: a technical_analysis_update
TECHNICAL = "technical_analysis:"
# technical_alert:SYMBOL:INTERVAL:TYPE, payload: a technical_alert
TECHNICAL_ALERTS = "technical_alert:"
ALERTS = "alerts:"  # alerts:SYMBOL:TYPE, payload: an alert, its `alert_id` the store's number
SYSTEM = "system"  # news of the service itself, for every socket
# broadcast:TARGET, payload: what an operator tells; TARGET a subscription type or `all`
BROADCAST = "broadcast:"
# tasks:NAME, payload: a task_update; tasks:queue, payload: a task_queue
TASKS = "tasks:"
# performance:now, payload: a metrics_update; performance:alerts, payload: a service_alert
PERFORMANCE = "performance:"
ENDED = b'{"ended":true}'  # the payload that ends a topic: nothing of it is kept
GOING_AWAY = "going_away"  # the event of the last SYSTEM message before a stop
LEAVING = "leaving:"  # leaving:REPLICA, payload: what the sockets of this replica are told


class Message(NamedTuple):
    """One payload (UTF-8 JSON object with at least one member) under one topic."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the hub's sequence; offsets of different epochs cannot be compared."""

    epoch: str
    offset: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages in order and without a hole; `position` is that of the last one.

    The offset of message i is `position.offset - len(messages) + 1 + i`.
    """

    position: Position
    messages: tuple[Message, ...]

    @property
    def first_offset(self) -> int:
        """Return the offset of the first message."""
        return self.position.offset - len(self.messages) + 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The last message of every topic with its offset, as of `position`.

    `history`: the last messages of all topics in order, the newest at `position`.
    """

    position: Position
    messages: tuple[tuple[int, Message], ...]
    history: tuple[Message, ...] = ()


def stamped(message: Message, epoch: str, offset: int) -> bytes:
    """Return a payload with its position as the first two members of the object."""
    return b'{"epoch":"%b","offset":%d,' % (epoch.encode(), offset) + message.payload[1:]


# Ray takes bytes as they are; an object of ours costs it a pickle at each end of every call.


def packed(messages: Sequence[Message]) -> bytes:
    """Return messages as bytes, for `unpacked`."""
    packed_: bytes = msgpack.packb([part for message in messages for part in message])
    return packed_


def unpacked(text: bytes) -> tuple[Message, ...]:
    """Return the messages that were packed."""
    parts = msgpack.unpackb(text)
    return tuple(map(Message, parts[::2], parts[1::2]))


def packed_batch(batch: Batch) -> bytes:
    """Return a batch as bytes, for `unpacked_batch`."""
    position = batch.position
    parts = [part for message in batch.messages for part in message]
    packed_: bytes = msgpack.packb([position.epoch, position.offset, *parts])
    return packed_


def unpacked_batch(text: bytes) -> Batch:
    """Return the batch that was packed."""
    epoch, offset, *parts = msgpack.unpackb(text)
    return Batch(Position(epoch, offset), tuple(map(Message, parts[::2], parts[1::2])))
