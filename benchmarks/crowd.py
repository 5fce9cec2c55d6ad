"""Many sockets in one process, and when each frame came."""

from __future__ import annotations

import asyncio
import gc
import resource
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import orjson
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

STAMP = b'"ns":'  # the last member of what is timed, monotonic nanoseconds
_AT_ONCE = 50

T = TypeVar("T")


class Crowd:
    """Sockets of this process. `latencies_ms` are of frames with a stamp, in their order."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.members: list[Member] = []
        self.latencies_ms: list[float] = []
        self.frames = 0
        self._awaited = 0
        self._reached = asyncio.Event()
        self._open = 0
        self._gone = asyncio.Event()

    async def connect(self, count: int, is_timed: bool = True) -> float:
        """Open so many more sockets; return the seconds until the last one's welcome."""
        began_s = time.monotonic()
        new: list[Member] = []
        for first in range(0, count, _AT_ONCE):
            some = range(first, min(count, first + _AT_ONCE))
            new += await asyncio.gather(*(self.one(is_timed) for _ in some))
        self.members += new
        await asyncio.gather(*(member.welcomed.wait() for member in new))
        return time.monotonic() - began_s

    async def one(self, is_timed: bool = True) -> Member:
        """Open a socket; it is not one of the members yet."""
        _, listener = await ws_connect(
            lambda: Member(self, is_timed), self._url, enable_auto_pong=True
        )
        assert isinstance(listener, Member)
        return listener

    async def subscribe(self, requests: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
        """Send each socket's request and return the answers."""
        answers = []
        for first in range(0, len(self.members), _AT_ONCE):
            some = list(enumerate(self.members))[first : first + _AT_ONCE]
            answers += await asyncio.gather(*(m.ask(requests(number)) for number, m in some))
        return answers

    def begin(self, awaited: int = 0) -> None:
        """Forget what was timed so far, and look out for so many stamped frames."""
        self.latencies_ms = []
        self.frames = 0
        self._awaited = awaited
        self._reached.clear()

    async def came(self, within_s: float) -> bool:
        """Wait until the frames that are looked out for came; False if they do not in time."""
        try:
            async with asyncio.timeout(within_s):
                await self._reached.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Close all sockets."""
        for member in self.members:
            member.transport.disconnect(False)
        if self.members:
            await self._gone.wait()
        self.members = []

    def take(self, latency_ms: float) -> None:
        """Note a stamped frame."""
        self.latencies_ms.append(latency_ms)
        if len(self.latencies_ms) == self._awaited:
            self._reached.set()

    def count(self, change: int) -> None:
        """Note a socket that was opened or closed."""
        self._open += change
        if self._open == 0:
            self._gone.set()


class Member(WSListener):
    """One socket."""

    def __init__(self, crowd: Crowd, is_timed: bool) -> None:
        super().__init__()
        self.transport: WSTransport
        self.welcomed = asyncio.Event()
        self.answer: asyncio.Future[dict[str, Any]] | None = None
        self.place: dict[str, Any] = {}
        self._crowd = crowd
        self._is_timed = is_timed

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request; return its answer."""
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.send(WSMsgType.TEXT, orjson.dumps(request))
        return await self.answer

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Note the connection; a peer that does not speak first is welcome enough."""
        self.transport = transport
        self._crowd.count(1)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Count it."""
        self._crowd.count(-1)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Time a stamped frame, or take the answer that is waited for."""
        crowd = self._crowd
        crowd.frames += 1
        if self.welcomed.is_set() and self.answer is None and not self._is_timed:
            return
        payload = frame.get_payload_as_bytes()
        self.welcomed.set()
        if self.answer is not None and b'"subscribed"' in payload:  # its snapshot may be stamped
            self.answer.set_result(orjson.loads(payload))
            self.answer = None
            return
        if self.answer is not None and b'"type":"error"' in payload:
            self.answer.set_exception(RuntimeError(payload.decode()))
            self.answer = None
            return
        at = payload.rfind(STAMP)
        if at >= 0 and self._is_timed:
            sent_ns = int(payload[at + len(STAMP) : payload.index(b"}", at)])
            crowd.take((time.monotonic_ns() - sent_ns) / 1e6)


def stamped(body: dict[str, Any]) -> bytes:
    """Return an object as JSON, with the time of now as its last member."""
    return orjson.dumps(body)[:-1] + b',"ns":%d}' % time.monotonic_ns()


def crowded(work: Coroutine[Any, Any, T]) -> T:
    """Run work on uvloop, without the garbage collector in between."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    finally:
        gc.enable()
