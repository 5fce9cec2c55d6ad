"""What a process is asked to run, and how that ended."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Protocol

import msgpack


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a process is asked to run; `previous` is the result of the task before, as JSON."""

    task_id: str
    number: int
    name: str
    target: str
    arguments: bytes
    previous: bytes | None
    tell_at_once: bool
    code: bytes | None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a try ended; an error has a code, and says whether another try can help."""

    started_s: float
    finished_s: float
    worker: str
    kind: str = ""
    data: bytes = b""
    progress: float = 100.0
    error_code: str | None = None
    error: str = ""
    is_retryable: bool = False
    after_s: float | None = None


def packed_ended(ended: Ended) -> bytes:
    """Return how a try ended, as bytes."""
    packed: bytes = msgpack.packb([getattr(ended, name) for name in Ended.__slots__])
    return packed


def unpacked_ended(text: bytes) -> Ended:
    """Return what `packed_ended` was given."""
    return Ended(*msgpack.unpackb(text))


class Died(Exception):
    """Raised where a try ended with its process, whoever ended that."""


class Runner(Protocol):
    """Who runs tries; see RayRunner."""

    def start(self, attempt: Attempt) -> Any:
        """Begin a try; return what stands for it."""

    def ended(self, ref: Any) -> Awaitable[Ended]:
        """Wait for its end; raises Died."""

    async def stop(self, ref: Any, force: bool) -> None:
        """Interrupt it, or end its process; one that has ended is no error."""

    def kill(self, worker: str) -> None:
        """End a worker's process where nothing else does."""

    async def slots(self) -> int | None:
        """Return how many may run at once, None where nobody says."""
