"""One socket: what its client says is answered, what it takes is written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from starlette.types import Receive

from infra.metrics import SLOW_SOCKETS
from infra.settings import Settings
from serve.ws.allowance import Allowance
from serve.ws.frames import Frame
from serve.ws.outbox import Outbox, nobody
from serve.ws.protocol import Session
from serve.ws.requests import Subscribe
from serve.ws.sockets import SocketTable
from serve.ws.wire import TOO_MANY_MESSAGES, Wire

# 4000 to 4499: come back; 4500 to 4999: it would be the same again.
SHUTDOWN = 4001
SLOW = 4008
MESSAGE_TOO_LARGE = 4500
TOO_MANY_CONNECTIONS = 4504


class Connection:
    """Writes what is in an outbox whenever the socket takes it; no task waits for that.

    The frames of one batch leave in one write. A socket that is not writable keeps them in its
    outbox, where newer values replace older ones.
    """

    __slots__ = ("_held", "_loop", "_outbox", "_session", "_table", "_wire")

    def __init__(self, wire: Wire, session: Session, outbox: Outbox, table: SocketTable) -> None:
        self._wire = wire
        self._session = session
        self._outbox = outbox
        self._table = table
        self._loop = asyncio.get_running_loop()
        self._held: asyncio.TimerHandle | None = None
        outbox.on_ready = wire.on_writable = self.flush

    def close(self) -> None:
        """Write nothing more, and let go of what holds this: no collector is needed for it."""
        self._wire.on_writable = None
        self._outbox.on_ready = nobody
        if self._held is not None:
            self._held.cancel()

    def flush(self) -> None:
        """Write what may leave now, if the socket takes it."""
        wire, outbox = self._wire, self._outbox
        if wire.is_writable:
            frames = outbox.take(self._loop.time)
            if len(frames) == 1:
                wire.put(frames[0].wire)
            elif frames:
                wire.put(b"".join([frame.wire for frame in frames]))
            if not outbox.is_empty:
                self._wait_for_held()
        if outbox.is_slow and not wire.is_over:
            SLOW_SOCKETS.inc()
            wire.end(SLOW, "reads too slowly; come back with recover")
        if self._table.going_away:
            wire.end(SHUTDOWN, "this process goes; come back")

    def _wait_for_held(self) -> None:
        """Come back when a frame that its rate holds back may leave."""
        due_s = self._outbox.due_s()
        if self._held is not None:
            self._held.cancel()
        if due_s is not None:
            self._held = self._loop.call_at(due_s, self.flush)

    def answer(self, frame: Frame) -> None:
        """Write an answer, before all values that came after it."""
        if not self._wire.is_over:
            self._wire.put(frame.wire)
            self._outbox.sent += 1
            self.flush()

    async def converse(
        self,
        receive: Receive,
        settings: Settings,
        prepare: Callable[[Subscribe], Awaitable[None]],
    ) -> None:
        """Answer messages, in order, until the connection ends.

        `prepare` asks others for what a subscription needs, before it is answered. Who does not
        read its answers is not read from.
        """
        per_s, max_bytes = settings.socket_messages_per_s, settings.max_message_bytes
        self.answer(self._session.welcome())
        allowance = Allowance(per_s, 10 * per_s, self._loop.time())
        self._wire.allowance = allowance
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text") or message.get("bytes") or b""
            if len(text) > max_bytes:
                self._wire.end(MESSAGE_TOO_LARGE, f"a message is at most {max_bytes} bytes")
            elif not allowance.take(self._loop.time()):
                self._wire.end(TOO_MANY_MESSAGES, allowance.told)
            else:
                asked = self._session.asked(text)
                if asked is not None:
                    await prepare(asked)
                await self._wire.writable.wait()
                self.answer(self._session.reply(text, time.time()))
