"""Messages as they are written to sockets."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack
import orjson

from infra.messages import Message, stamped
from infra.metrics import ENCODES

Frame = str | bytes  # a text frame, a binary one

JSON, MSGPACK = "json", "msgpack"
ENCODINGS = (JSON, MSGPACK)
ALWAYS = frozenset({"epoch", "offset", "type", "symbol", "interval"})  # whatever the fields


class Format(NamedTuple):
    """How a client wants messages: `fields` names those it needs, None all of them."""

    encoding: str = JSON
    fields: frozenset[str] | None = None


PLAIN = Format()


def encoded(body: dict[str, Any], encoding: str) -> Frame:
    """Return an object as a frame."""
    if encoding == MSGPACK:
        packed: bytes = msgpack.packb(body)
        return packed
    return orjson.dumps(body).decode()


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
            return text.decode()
        return encoded(chosen(orjson.loads(text), format_.fields), format_.encoding)


def chosen(body: dict[str, Any], fields: frozenset[str] | None) -> dict[str, Any]:
    """Return the fields that a client needs, and those that every message has."""
    if fields is None:
        return body
    return {name: value for name, value in body.items() if name in fields or name in ALWAYS}
