"""A way to a server that a test can cut, hold up and open again."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self


class TcpProxy:
    """Listens on a loopback port and passes bytes to a server and back, while it is up."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.cut_after: bytes | None = None  # cut when a client has sent this, before passing it
        self.cut_answer_to: bytes | None = None  # pass it, and cut before the answer

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.down()

    async def up(self) -> None:
        """Take connections, on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Refuse connections and cut those that are there."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Cut the connections that are there."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there = await asyncio.open_connection(*self._target)
        both = {writer, there}
        self._writers |= both
        mute = asyncio.Event()
        ways = [self._up(reader, there, mute), self._back(there_reader, writer, mute)]
        tasks = [asyncio.create_task(way) for way in ways]
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._writers -= both
        for end in both:
            end.transport.abort()

    async def _up(
        self, reader: asyncio.StreamReader, there: asyncio.StreamWriter, mute: asyncio.Event
    ) -> None:
        while data := await reader.read(65_536):
            if self.cut_after is not None and self.cut_after in data:
                self.cut_after = None
                return
            if self.cut_answer_to is not None and self.cut_answer_to in data:
                self.cut_answer_to = None
                mute.set()
            there.write(data)
            await there.drain()

    async def _back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mute: asyncio.Event
    ) -> None:
        while data := await reader.read(65_536):
            if mute.is_set():
                return
            writer.write(data)
            await writer.drain()
