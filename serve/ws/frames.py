"""Messages as they are written to sockets."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import msgpack
import orjson

from infra.messages import Message, stamped
from infra.metrics import ENCODES

JSON, MSGPACK = "json", "msgpack"
ENCODINGS = (JSON, MSGPACK)
# What a message has whatever the fields.
ALWAYS = frozenset({"epoch", "offset", "type", "symbol", "interval", "alert_id"})

_TEXT, _BINARY = 0x81, 0x82  # the last and only fragment, RFC 6455 5.2
_SHORT, _MEDIUM = 126, 2**16


class Format(NamedTuple):
    """How a client wants messages: `fields` names those it needs, None all of them."""

    encoding: str = JSON
    fields: frozenset[str] | None = None


PLAIN = Format()


class Frame(NamedTuple):
    """One message: its payload, the bytes of the WebSocket frame around it, its offset.

    Made once and written to every socket that wants it. Answers have the offset 0.
    """

    payload: bytes
    wire: bytes
    offset: int = 0


def framed(payload: bytes, encoding: str, offset: int = 0) -> Frame:
    """Return a payload as a frame: text for JSON, binary for MessagePack."""
    kind = _BINARY if encoding == MSGPACK else _TEXT
    size = len(payload)
    if size < _SHORT:
        head = bytes((kind, size))
    elif size < _MEDIUM:
        head = struct.pack("!BBH", kind, 126, size)
    else:
        head = struct.pack("!BBQ", kind, 127, size)
    return Frame(payload, head + payload, offset)


def encoded(body: dict[str, Any], encoding: str, offset: int = 0) -> Frame:
    """Return an object as a frame."""
    payload = msgpack.packb(body) if encoding == MSGPACK else orjson.dumps(body)
    return framed(payload, encoding, offset)


class FramesOf:
    """One message's frames, each made when it is first asked for, once for each format."""

    def __init__(self, message: Message, epoch: str, offset: int) -> None:
        self._message = message
        self._epoch = epoch
        self._offset = offset
        self._made: dict[Format, Frame] = {}

    def __getitem__(self, format_: Format) -> Frame:
        frame = self._made.get(format_)
        if frame is None:
            frame = self._made[format_] = self._make(format_)
            ENCODES.inc()
        return frame

    def _make(self, format_: Format) -> Frame:
        text = stamped(self._message, self._epoch, self._offset)
        if format_ == PLAIN:
            return framed(text, JSON, self._offset)
        body = chosen(orjson.loads(text), format_.fields)
        return encoded(body, format_.encoding, self._offset)


def chosen(body: dict[str, Any], fields: frozenset[str] | None) -> dict[str, Any]:
    """Return the fields that a client needs, and those that every message has."""
    if fields is None:
        return body
    return {name: value for name, value in body.items() if name in fields or name in ALWAYS}
