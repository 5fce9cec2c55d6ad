"""The server's side of one WebSocket, which prepared frames are written to.

Serve starts uvicorn without options for its sockets, so the deployment's constructor, which runs
before that, puts this class into uvicorn's configuration (docs/decisions/0009).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import OPEN

from serve.ws.allowance import Allowance

WIRE = "finstage.wire"  # where an application finds it in its scope's extensions
PING_EVERY_S = 20.0
SILENT_S = 120.0
NO_PONG = 4012
TOO_MANY_MESSAGES = 4501
_CLOSING_S = 5.0  # for the other side to answer a close; then the connection is cut


class Wire(WebSocketsSansIOProtocol):
    """uvicorn's protocol, with frames past its send(), and silence instead of missing pongs.

    Any frame of the client counts as life, a pong too. Who says nothing for `SILENT_S` seconds,
    through six pings, is closed with `NO_PONG`. Frames that no message is made of count against
    the `allowance` too, and of the pongs that a client does not read only the last one waits.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heard_s = self.loop.time()
        self.on_writable: Callable[[], None] | None = None
        self.allowance: Allowance | None = None  # of who was given a place
        self._pong = b""

    @property
    def is_writable(self) -> bool:
        """Return whether what is written now leaves at once, as far as this process can tell."""
        return self.writable.is_set() and not self.is_over

    @property
    def is_over(self) -> bool:
        """Return whether nothing can be sent any more."""
        return self.conn.state is not OPEN or self.disconnected

    def handle_connect(self, event: Request) -> None:
        """Begin with a client; the application's task starts after this returns."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            cast(dict[str, Any], self.scope["extensions"])[WIRE] = self
            # What does not leave at once makes the socket not writable: frames then wait in an
            # outbox, where newer ones replace them. It also makes uvloop write at once.
            self.transport.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        self.heard_s = self.loop.time()
        super().data_received(data)

    def resume_writing(self) -> None:
        """Go on with what waited for this client."""
        super().resume_writing()
        if self._pong and not self.is_over:
            pong, self._pong = self._pong, b""
            self.transport.write(pong)
        if self.on_writable is not None:
            self.on_writable()

    def handle_ping(self) -> None:
        """Answer a ping once the client takes it; RFC 6455, 5.5.3: the last one is enough."""
        if self.conn.close_rcvd is not None:  # in the same read: its echo takes the pongs along
            return
        pongs = self.conn.data_to_send()  # of all pings of a read, at the first of them
        if not self._may_say_more() or not pongs:
            return
        if self.writable.is_set():
            self.transport.write(b"".join(pongs))
        else:
            self._pong = pongs[-1]

    def handle_pong(self, event: Frame) -> None:
        """Take the answer to a ping, or one to none."""
        if self._may_say_more():
            super().handle_pong(event)

    def handle_cont(self, event: Frame) -> None:
        """Take a part of a message; an empty one costs memory though it adds no byte."""
        if self._may_say_more():
            super().handle_cont(event)

    def _may_say_more(self) -> bool:
        """Count a frame; False where it is one too many, or nothing is listened to any more."""
        if self.allowance is not None and not self.allowance.take(self.loop.time()):
            self.end(TOO_MANY_MESSAGES, self.allowance.told)
        return not self.is_over

    def send_keepalive_ping(self) -> None:
        """Ping, or give up a client that said nothing for long."""
        if self.loop.time() - self.heard_s > SILENT_S:
            self.end(NO_PONG, f"nothing heard for {SILENT_S:g} s")
        else:
            super().send_keepalive_ping()

    def put(self, frames: bytes) -> None:
        """Write whole frames; those of several messages may be joined."""
        self.transport.write(frames)

    def end(self, code: int, reason: str) -> None:
        """Close, whether the client reads or not: it has some seconds to answer."""
        if self.is_over:
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.stop_keepalive()
        if self.read_paused:  # its answer to the close is still to be read
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(_CLOSING_S, self.transport.abort)


def use_wire(max_message_bytes: int) -> None:
    """Let the server that Serve is about to start make sockets of this kind.

    Deflate is off: it would compress every frame again for every socket.
    """
    uvicorn.Config = functools.partial(  # type: ignore[misc,assignment]
        uvicorn.Config,
        ws=Wire,
        ws_per_message_deflate=False,
        ws_max_size=4 * max_message_bytes,
        ws_ping_interval=PING_EVERY_S,
        ws_ping_timeout=None,
    )
