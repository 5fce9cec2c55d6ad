"""The request that this code works for: an id that follows it through processes."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_request_id: ContextVar[str] = ContextVar("finstage_request_id", default="")
_SAFE = re.compile(r"[A-Za-z0-9._-]{1,64}")


def current_request_id() -> str:
    """Return the id of the request under way, or an empty string."""
    return _request_id.get()


def new_request_id(given: str = "") -> str:
    """Return `given` if it is safe to log and echo, else a new random id."""
    return given if given and _SAFE.fullmatch(given) else f"{random.getrandbits(64):016x}"


@contextmanager
def bound_request_id(request_id: str) -> Iterator[None]:
    """Make `request_id` the current one within the block."""
    token = _request_id.set(request_id)
    try:
        yield
    finally:
        _request_id.reset(token)
