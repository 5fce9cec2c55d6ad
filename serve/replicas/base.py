"""What both kinds of replica are made of."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable

from actors.reporting import report_metrics
from actors.runtime import steady_interpreter
from actors.telemetry.client import TelemetryClient
from infra.logs import setup_logs
from infra.metrics import watch_process
from infra.settings import Settings
from serve.edge.gate import Gate
from serve.ws.wire import use_wire

logger = logging.getLogger(__name__)


class Replica:
    """What both kinds of replica have: logs, gauges, the hub's news."""

    role: str

    async def start(self, settings: Settings) -> None:
        """Begin to work; the first thing that a replica does."""
        self.settings = settings
        self.process = f"{self.role}-{os.getpid()}"
        self.gate = Gate(settings)
        self._tasks: set[asyncio.Task[None]] = set()
        setup_logs(settings.log_dir, self.role, settings.log_level)
        steady_interpreter()
        use_wire(settings.max_message_bytes)
        self.keep(watch_process(self.process))
        self.keep(report_metrics(self.process, TelemetryClient()))
        logger.info("replica.started", extra={"role": self.role})

    def keep(self, work: Awaitable[None]) -> None:
        """Run something for the life of the replica; its failure ends the process."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            logger.error("replica.broken", exc_info=task.exception())
            os._exit(1)  # Serve starts another: better than one that answers from old data
