"""A database that a test takes away and gives back."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from sqlalchemy import URL

from tests.databases import database
from tests.fakes.tcp_proxy import TcpProxy


class World:
    """A database of its own behind a way that a test cuts, in a loop of its own."""

    def __init__(self, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.proxy = TcpProxy("127.0.0.1", 3306)
        self._database = database("mysql", folder)
        self.direct: URL = self.do(self._database.__aenter__())
        self.do(self.proxy.up())
        self.do(self.proxy.down())

    @property
    def url(self) -> str:
        return self.direct.set(port=self.proxy.port).render_as_string(hide_password=False)

    def do(self, work: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(20)

    def close(self) -> None:
        self.do(self.proxy.down())
        self.do(self._database.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
