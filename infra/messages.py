"""What travels through the hub: payloads under a topic, each with its place in one sequence."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Concatenate, NamedTuple, ParamSpec

import msgpack
import orjson

from infra.metrics import HUB_UNREAD

logger = logging.getLogger(__name__)

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
# performance:now, payload: a metrics_update; performance:alerts, payload: a service_alert, for
# who takes performance or alerts
PERFORMANCE = "performance:"
SERVICE_ALERT = PERFORMANCE + "alerts"
ENDED = b'{"ended":true}'  # the payload that ends a topic: nothing of it is kept
GONE = "gone"  # the data version of a symbol that there is no longer
GOING_AWAY = "going_away"  # the event of the last SYSTEM message before a stop
LEAVING = "leaving:"  # leaving:REPLICA, payload: what the sockets of this replica are told


class Kind(StrEnum):
    """What a message is: the head of its topic, unless it ends the topic or nobody knows it."""

    PRICES = "prices"
    EXTENDED = "extended"
    DATA = "data"
    SOURCE_DATA = "source"
    BARS = "bars"
    ACTIONS = "actions"
    TECHNICAL = "technical_analysis"
    TECHNICAL_ALERTS = "technical_alert"
    ALERTS = "alerts"
    SYSTEM = "system"
    BROADCAST = "broadcast"
    TASKS = "tasks"
    PERFORMANCE = "performance"
    LEAVING = "leaving"
    ENDED = "ended"
    UNKNOWN = "unknown"


class Message(NamedTuple):
    """One payload (UTF-8 JSON object with at least one member) under one topic."""

    topic: str
    payload: bytes

    @property
    def kind(self) -> Kind:
        """What it is; one that ends its topic is `ENDED` whatever the topic."""
        if self.payload == ENDED:
            return Kind.ENDED
        return _KINDS.get(self.topic.partition(":")[0], Kind.UNKNOWN)


_KINDS = {kind.value: kind for kind in Kind if kind not in (Kind.ENDED, Kind.UNKNOWN)}


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


# What whoever computes with a message may count on; times are ISO.
_Type = type | tuple[type, ...]
_NUMBER, _MAYBE = (int, float), (int, float, type(None))
_VERSION: dict[str, _Type] = {"symbol": str, "data_version": str}
_PRICE: dict[str, _Type] = (
    _VERSION
    | dict.fromkeys(("current_price", "open", "high", "low", "volume"), _NUMBER)
    | {"previous_close": _MAYBE, "timestamp": datetime, "session": date, "session_part": str}
    | {"source": str, "stale": bool, "synthetic": bool}
)
_SAYS: dict[Kind, Mapping[str, _Type]] = {
    Kind.PRICES: _PRICE,
    Kind.EXTENDED: _PRICE,
    Kind.DATA: _VERSION,
    Kind.SOURCE_DATA: _VERSION,
    Kind.BARS: {"symbol": str, "timestamp": datetime, "revision": int}
    | dict.fromkeys(("open", "high", "low", "close", "volume"), _NUMBER),
    Kind.TECHNICAL: {"symbol": str, "interval": str, "values": dict},
    Kind.ALERTS: {"alert_id": int},
}


class MessageInvalid(ValueError):
    """Raised for a message that does not say what those of its kind say."""


def object_of(message: Message) -> dict[str, Any]:
    """Return the payload as an object; raises MessageInvalid where it is none."""
    try:
        body = orjson.loads(message.payload)
    except orjson.JSONDecodeError:
        raise MessageInvalid("no JSON") from None
    if not isinstance(body, dict) or not body:
        raise MessageInvalid("no object with a member")
    return body


def body_of(message: Message) -> dict[str, Any]:
    """Return the payload with all that its kind says; raises MessageInvalid."""
    body = object_of(message)
    for name, type_ in _SAYS.get(message.kind, {}).items():
        if not _is_a(body.get(name), type_):
            raise MessageInvalid(f"{name} is {str(body.get(name))[:40]!r}")
    return body


def _is_a(value: object, type_: _Type) -> bool:
    if type_ is not date and type_ is not datetime:
        return isinstance(value, type_)
    try:
        return isinstance(value, str) and bool(type_.fromisoformat(value))
    except ValueError:
        return False


P = ParamSpec("P")
_LOG_EVERY = 1_000
_unread: Counter[Kind] = Counter()


def hand(
    message: Message,
    take: Callable[Concatenate[Kind, Message, P], object],
    *more: P.args,
    **named: P.kwargs,
) -> None:
    """Give a message to a reader, who never fails by what it says.

    What is of no known kind, or cannot be taken, is counted and left out; the first of a kind is
    logged, and each thousandth: ticks come by thousands a second.
    """
    kind = message.kind
    try:
        if kind is Kind.UNKNOWN:
            raise MessageInvalid("nobody knows such a topic")
        take(kind, message, *more, **named)
    except Exception as error:  # of one message: those after it are read
        _note_unread(kind, message, error)


def read(messages: Iterable[Message]) -> Iterator[tuple[Kind, dict[str, Any]]]:
    """Yield what messages say, with their kinds; ends of topics say nothing.

    What cannot be read is left out, as by `hand`.
    """
    for message in messages:
        found: list[tuple[Kind, dict[str, Any]]] = []
        hand(message, _read_into, found)
        yield from found


def _read_into(kind: Kind, message: Message, found: list[tuple[Kind, dict[str, Any]]]) -> None:
    if kind is not Kind.ENDED:
        found.append((kind, body_of(message)))


def _note_unread(kind: Kind, message: Message, error: Exception) -> None:
    HUB_UNREAD.labels(kind.value).inc()
    if _unread[kind] % _LOG_EVERY == 0:
        payload = message.payload[:200].decode(errors="replace")
        about = {"topic": message.topic[:100], "payload": payload}
        logger.error("hub.unread", exc_info=error, extra=about)
    _unread[kind] += 1
