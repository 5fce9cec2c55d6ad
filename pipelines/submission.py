"""What is asked of the queue: a task with its policy, and which others it waits for."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any, Literal

import msgpack
import orjson

TASK_QUEUE = "finstage-tasks"  # the actor that takes submissions

Mode = Literal["all", "settled", "any"]
Take = Literal["none", "one", "list"]

MOST_RETRIES = 1_000_000
MOST_S = 3_155_760_000.0  # a century
OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "in", "exists")


class TaskPriority(IntEnum):
    """What runs first; within one, what came first."""

    CRITICAL = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3


@dataclass(frozen=True, slots=True)
class Condition:
    """Holds where a member of a result compares so; `field` is a path such as `signals.rsi`."""

    field: str
    op: str
    value: Any = None

    def holds(self, result: Any) -> bool:
        """Return whether it holds; what is not there, or of another type, does not compare."""
        found = result
        for part in filter(None, self.field.split(".")):
            if not isinstance(found, dict) or part not in found:
                return False
            found = found[part]
        try:
            return bool(_COMPARED[self.op](found, self.value))
        except TypeError:
            return False


_COMPARED: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "in": lambda a, b: a in b,
    "exists": lambda a, b: True,
}


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Which tasks come before one, and what it takes of them.

    `mode`: `all` runs once all completed; `settled` once all ended, however; `any` once all ended
    and one completed. `take` gives the result of the (first completed) one, or the list of all,
    as the first argument; of one that failed it is `{"error": {"code", "message"}}`. `when` is
    held against the result of the first.
    """

    on: tuple[str, ...]
    mode: Mode = "all"
    take: Take = "none"
    when: Condition | None = None
    unless: bool = False

    def decided(self) -> Dependencies:
        """Return this for a task that runs once all of them ended, whatever they did."""
        return replace(self, mode="settled", when=None)

    def as_json(self) -> str:
        """Return this as it is stored."""
        when = None if self.when is None else [self.when.field, self.when.op, self.when.value]
        return orjson.dumps([self.on, self.mode, self.take, when, self.unless]).decode()

    @classmethod
    def of_json(cls, text: str) -> Dependencies:
        """Return what `as_json` gave."""
        on, mode, take, when, unless = orjson.loads(text)
        return cls(tuple(on), mode, take, None if when is None else Condition(*when), unless)


@dataclass(frozen=True, slots=True)
class Submission:
    """One task to be done. `arguments` is JSON with `args` and `kwargs`, `webhook` with URL and
    secret; `code` is a pickled function where nothing is stored."""

    id: str
    name: str
    target: str
    arguments: bytes
    priority: int = TaskPriority.NORMAL
    max_retries: int = 3
    retry_delay_s: float = 1.0
    timeout_s: float | None = None
    delay_s: float = 0.0
    unique_key: str | None = None
    idempotency_key: str | None = None
    parent_id: str | None = None
    graph_id: str | None = None
    needs: str | None = None
    webhook: str | None = None
    code: bytes | None = None

    @property
    def is_durable(self) -> bool:
        """Return whether it is in the store before its caller has the id."""
        return self.code is None


def policy_fault(
    max_retries: int, timeout_s: float | None, retry_delay_s: float, delay_s: float = 0.0
) -> str | None:
    """Return what is wrong with how a task is to be run, or None."""
    if not 0 <= max_retries <= MOST_RETRIES:
        return f"max_retries is {max_retries}, it is 0 to {MOST_RETRIES}"
    if timeout_s is not None and not 0 < timeout_s <= MOST_S:
        return f"timeout_s is {timeout_s:g}, it must be above 0, and {MOST_S:g} at most"
    for name, value in (("retry_delay_s", retry_delay_s), ("delay_s", delay_s)):
        if not 0 <= value <= MOST_S:  # nor is what is no number
            return f"{name} is {value:g}, it cannot be below 0 or above {MOST_S:g}"
    return None


_FIELDS = tuple(field.name for field in fields(Submission))


def new_task_id() -> str:
    """Return an id that no task has."""
    return str(uuid.uuid4())


def packed_submissions(submissions: Sequence[Submission]) -> bytes:
    """Return submissions as bytes: Ray pickles objects of ours one by one."""
    packed: bytes = msgpack.packb([[getattr(s, n) for n in _FIELDS] for s in submissions])
    return packed


def unpacked_submissions(text: bytes) -> list[Submission]:
    """Return the submissions that were packed."""
    return [Submission(*values) for values in msgpack.unpackb(text)]
