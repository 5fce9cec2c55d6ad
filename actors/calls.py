"""How often a method may run for one call from another process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def once(method: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Mark a method that must not run twice for one call: it adds, or fails the second time.

    Clients ask for it with `_ask_once`; a test holds both against each other.
    """
    method.once = True  # type: ignore[attr-defined]
    return method
