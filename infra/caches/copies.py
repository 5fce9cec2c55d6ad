"""How a value is kept and given so that no caller can alter what another one gets."""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

_FIXED = (
    str, int, float, complex, bool, bytes, type(None), date, datetime, time, timedelta, Decimal,
    UUID, Enum,
)  # fmt: skip


class Guarded:
    """A value in a cache that hands out copies: frames copy on write, arrays are read-only."""

    __slots__ = ("_give", "_value")

    def __init__(self, value: Any, give: Callable[[Any], Any]) -> None:
        self._value = value
        self._give = give

    def given(self) -> Any:
        """Return the value for one caller."""
        return self._give(self._value)


def guarded(value: Any) -> Any:
    """Return what to keep: the value itself if nobody can alter it, else a `Guarded` copy.

    Raises TypeError for what cannot be copied.
    """
    if is_fixed(value):
        return value
    pandas, numpy = sys.modules.get("pandas"), sys.modules.get("numpy")
    if pandas is not None and isinstance(value, (pandas.DataFrame, pandas.Series)):
        return Guarded(value.copy(deep=False), _shallow)
    if pandas is not None and isinstance(value, pandas.Index):
        return value
    if numpy is not None and isinstance(value, numpy.ndarray) and not value.dtype.hasobject:
        kept = value.copy()
        kept.flags.writeable = False
        return kept
    try:
        return Guarded(copy.deepcopy(value), copy.deepcopy)
    except Exception as error:
        raise TypeError(f"a {type(value).__qualname__} cannot be copied: {error}") from None


def given(kept: Any) -> Any:
    """Return what a caller gets of what is kept."""
    return kept.given() if type(kept) is Guarded else kept


def is_fixed(value: Any) -> bool:
    """Return whether nobody can alter a value."""
    if isinstance(value, _FIXED):
        return True
    if type(value) in (tuple, frozenset):
        return all(is_fixed(part) for part in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # typeshed does not know what dataclasses leaves on the class
        frozen = type(value).__dataclass_params__.frozen  # type: ignore[attr-defined]
        return frozen and all(is_fixed(getattr(value, f.name)) for f in dataclasses.fields(value))
    return False


def _shallow(value: Any) -> Any:
    return value.copy(deep=False)  # pandas copies what is written to
