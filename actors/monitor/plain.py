"""Dataclasses as the store and messages have them: plain types that JSON gives back the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")
_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


def plain(value: object) -> Any:
    """Return the dict of a dataclass, with lists for tuples."""
    return _adapter(type(value)).dump_python(value, mode="json")


def restored(kind: type[T], body: object) -> T:
    """Return what `plain` was made of; raises ValueError for anything else."""
    found: T = _adapter(kind).validate_python(body)
    return found
