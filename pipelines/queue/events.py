"""What clients are told of tasks: the latest of each, a few times a second."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import orjson

from actors.hub.client import HubClient
from infra.clock import Clock
from infra.errors import FinstageError
from infra.messages import TASKS, Message

logger = logging.getLogger(__name__)

EVERY_S = 0.25
_MOST = 100  # in one batch: of more, only how many


class TaskEvents:
    """Collects, and publishes; what happens in between twice is told once. Soft."""

    def __init__(self, hub: HubClient, clock: Clock) -> None:
        self._hub = hub
        self._clock = clock
        self._changed: dict[str, Callable[[], dict[str, Any]]] = {}
        self._omitted = 0
        self._counts: dict[str, int] = {}
        self._published: dict[str, int] = {}

    def changed(self, task_id: str, shown: Callable[[], dict[str, Any]]) -> None:
        """Take that a task changed; how it is then is asked when it is told."""
        if task_id in self._changed or len(self._changed) < _MOST:
            self._changed[task_id] = shown
        else:
            self._omitted += 1

    def counted(self, counts: dict[str, int]) -> None:
        """Take how many tasks there are, by stage."""
        self._counts = counts

    async def run(self) -> None:
        """Never return."""
        while True:
            await self._clock.sleep(EVERY_S)
            messages = self._messages()
            if not messages:
                continue
            try:
                await self._hub.publish(messages)
            except FinstageError as error:
                logger.info("tasks.untold", extra={"reason": error.code})

    def _messages(self) -> list[Message]:
        changed, self._changed = self._changed, {}
        omitted, self._omitted = self._omitted, 0
        bodies = [{"type": "task_update"} | shown() for shown in changed.values()]
        if omitted or self._counts != self._published:
            self._published = self._counts
            bodies.append({"type": "task_queue", "omitted": omitted} | self._counts)
        return [Message(TASKS + _subject(body), orjson.dumps(body)) for body in bodies]


def _subject(body: dict[str, Any]) -> str:
    return str(body.get("task_name", "queue"))
