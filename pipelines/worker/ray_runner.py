"""Tries of tasks as Ray tasks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import Any

import psutil
import ray

from actors.runtime import brought
from infra.settings import Settings
from pipelines.worker.attempt import Attempt, Died, Ended, unpacked_ended
from pipelines.worker.bounds import ERROR_CHARS, plain_text
from pipelines.worker.runner import run_attempt

logger = logging.getLogger(__name__)

RESOURCE = "finstage_tasks"  # of each node that runs tasks, as many as it has slots
_NAME = "finstage_task"
_TITLE = f"ray::{_NAME}"  # how Ray's name of a process that runs a task of ours begins


class RayRunner:
    """Hands attempts to Ray. On a Ray that was started without our resource each takes a CPU."""

    def __init__(self, settings: Settings) -> None:
        def finstage_task(*attempt: Any) -> bytes:
            return run_attempt(settings, *attempt)

        own = RESOURCE in ray.cluster_resources()
        needs = {"num_cpus": 0, "resources": {RESOURCE: 1}} if own else {"num_cpus": 1}
        self._remote = ray.remote(finstage_task)
        self._options: dict[str, Any] = {"max_retries": 0} | needs
        self._named: dict[str, Any] = {}  # by the names of registered tasks

    def start(self, attempt: Attempt) -> Any:
        """Begin a try, under the task's name in Ray's dashboard; return Ray's reference."""
        remote = self._named.get(attempt.name)
        if remote is None:
            remote = self._named[attempt.name] = self._remote.options(
                name=f"{_NAME} {attempt.name}", **self._options
            )
        return remote.remote(*(getattr(attempt, name) for name in Attempt.__slots__))

    async def ended(self, ref: Any) -> Ended:
        """Wait for its end; raises Died."""
        packed, error = await brought(ref)
        if error is not None:
            said = plain_text(error, ERROR_CHARS).strip().partition("\n")[0]
            raise Died(said or type(error).__name__)
        return unpacked_ended(packed)

    async def stop(self, ref: Any, force: bool) -> None:
        """Interrupt it, or end its process."""
        try:
            await asyncio.to_thread(ray.cancel, ref, force=force)
        except Exception as error:  # Ray's many kinds: it may just have ended
            logger.info("task.uncancelled", extra={"reason": str(error).partition("\n")[0]})

    def kill(self, worker: str) -> None:
        """End a process of this machine: Ray cannot interrupt code that keeps Python's lock."""
        host, _, pid = worker.rpartition("-")
        if host != socket.gethostname():
            return
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(int(pid))
            if "".join(process.cmdline()[:1]).startswith(
                _TITLE
            ):  # not another that has its number by now
                process.kill()

    async def slots(self) -> int | None:
        """Return how many slots the nodes offer together."""
        offered = await asyncio.to_thread(ray.cluster_resources)
        return int(offered[RESOURCE]) if RESOURCE in offered else None
