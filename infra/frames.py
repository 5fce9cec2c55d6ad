"""Frames that take less memory without losing a digit."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import logging
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple, ParamSpec, TypeVar, overload

import numpy as np
import pandas as pd

from infra.bars import Floats
from infra.directives import MEMORY_BASIC, is_on

# Columns that are records, by name in any case ("Adj Close" too) or any part of a tuple's.
_NAMES = "open high low close adj_close price current_price previous_close last mid vwap bid ask"
PRICES = frozenset(_NAMES.split())
VOLUMES = frozenset(("volume", "adj_volume", "bid_size", "ask_size"))
# float32 has 24 bits: it is off by 2^-24 = 6e-8 at most, but for the subnormal, below 1.2e-38.
PRICE_TOLERANCE = 1e-7

_KINDS = ("int8", "uint8", "int16", "uint16", "int32", "uint32")  # smallest first
_NULLABLE = frozenset(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))
_FEW = 0.5  # of rows that differ, below which text becomes categories
_MB = 2**20

logger = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")


class Change(NamedTuple):
    """A column that takes less: its types, and its bytes without the index."""

    name: Hashable
    before: str
    after: str
    before_bytes: int
    after_bytes: int


class Optimised(NamedTuple):
    """A frame that takes less memory, its bytes with the index, and the columns that changed."""

    frame: pd.DataFrame
    before_bytes: int
    after_bytes: int
    columns: tuple[Change, ...]

    @property
    def before_mb(self) -> float:
        """What it took, in units of 2^20 bytes."""
        return self.before_bytes / _MB

    @property
    def after_mb(self) -> float:
        """What it takes now, in units of 2^20 bytes."""
        return self.after_bytes / _MB

    @property
    def reduction_pct(self) -> float:
        """What it takes less, in percent of what it took."""
        return 100 * (1 - self.after_bytes / self.before_bytes) if self.before_bytes else 0.0


def optimised(
    frame: pd.DataFrame, *, aggressive: bool = False, tolerance: float = 0.0
) -> Optimised:
    """Return a copy each of whose columns takes the least that holds every value.

    - whole numbers: the smallest of int8, int16, int32, of nullable ones Int8, Int16, Int32
    - float64: float32 where every value comes back within `tolerance` (relative, 0.0: exactly)
    - text: categories where fewer than half of the rows differ
    - prices and volumes (see `PRICES`, `VOLUMES`): as they are

    With `aggressive`, prices become float32 too where every value comes back to 1e-7, whatever
    `tolerance`; volumes the smallest integer or unsigned integer, of float64 too where all are
    whole, never float32, which loses units above 16.7 million; other float64 that are all whole
    a smaller integer.

    A column stays as it is where another type saves no bytes, or would change what is read: -0.0
    as an integer, None as a category's NaN, text beside other things. Dates stay: a coarser unit
    takes the same 8 bytes, and categories cannot be resampled or compared with a date between.
    The index stays, with its repeated labels: to reset it would lose it. Arithmetic on narrow
    integers wraps around at their width: widen the column first.

    Raises TypeError for what is no frame, ValueError for a tolerance not in [0, 1).
    """
    if not isinstance(frame, pd.DataFrame):
        kind = type(frame).__name__
        raise TypeError(f"optimised takes a DataFrame, not a {kind}: series.to_frame() makes one")
    if not 0 <= tolerance < 1:
        raise ValueError(f"the tolerance is relative, from 0 to below 1, not {tolerance}")
    before = _frame_bytes(frame)
    if frame.empty:
        return Optimised(frame.copy(), before, before, ())
    olds = [frame.iloc[:, place] for place in range(frame.shape[1])]
    news = [_smallest(old, aggressive, tolerance) for old in olds]
    smaller = _assembled(frame, news)
    pairs = zip(olds, news, strict=True)
    changes = tuple(_change(old, new) for old, new in pairs if new is not old)
    return Optimised(smaller, before, _frame_bytes(smaller), changes)


def unchanged(frame: pd.DataFrame) -> Optimised:
    """Return a frame as it is, with its bytes."""
    size = int(frame.memory_usage(index=True, deep=True).sum())
    return Optimised(frame, size, size, ())


@overload
def optimize_dataframe_memory(
    function: Callable[P, R], /, *, aggressive: bool = False
) -> Callable[P, R]: ...


@overload
def optimize_dataframe_memory(
    *, aggressive: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def optimize_dataframe_memory(function: Any = None, /, *, aggressive: bool = False) -> Any:
    """Make a function, `async def` or not, return its frames `optimised`.

    That is: a frame, or the frames that a dict, list or tuple holds (one level, in a copy of it);
    anything else is returned as it is. An `async def` shrinks in a thread, beside its loop. Put it
    next to the function, below decorators that change what is returned.

    Raises TypeError for what is no function, and for a generator.
    """
    if function is None:
        return functools.partial(_shrinking, aggressive=aggressive)
    return _shrinking(function, aggressive=aggressive)


def _smallest(column: pd.Series, aggressive: bool, tolerance: float) -> pd.Series:
    """Return the column itself, or the smallest that reads the same."""
    # The first of the smallest, so what saves nothing is not taken.
    return min((column, *_others(column, aggressive, tolerance)), key=_column_bytes)


def _others(column: pd.Series, aggressive: bool, tolerance: float) -> Iterator[pd.Series]:
    is_volume, is_price = _is_volume(column.name), _is_price(column.name)
    if _is_text(column):
        yield from _categories(column)
    elif (is_volume or is_price) and not aggressive:
        return
    elif _is_integer(column):
        known = column.dropna()
        ends = (int(known.min()), int(known.max())) if len(known) else (0, 0)
        yield from _integers(column, *ends, is_volume)
    elif column.dtype == np.float64:
        values = column.to_numpy()
        if aggressive and not is_price and _is_whole(values):
            yield from _integers(column, int(values.min()), int(values.max()), is_volume)
        if not is_volume and _survives(values, PRICE_TOLERANCE if is_price else tolerance):
            yield column.astype(np.float32)


def _categories(column: pd.Series) -> Iterator[pd.Series]:
    texts = column.to_numpy(dtype=object)
    unique = sorted(set(column.dropna().to_numpy(dtype=object)))
    if len(unique) / len(column) < _FEW:
        # Counted here: pandas takes a lone surrogate for its escape, or fails on it.
        places = {text: place for place, text in enumerate(unique)}
        codes = np.fromiter((places.get(text, -1) for text in texts), np.int64, len(texts))
        kind = pd.CategoricalDtype(pd.Index(unique, dtype=column.dtype))
        values = pd.Categorical.from_codes(codes, dtype=kind)  # in the smallest integer
        yield pd.Series(values, column.index, name=column.name)


def _integers(column: pd.Series, low: int, high: int, is_unsigned: bool) -> Iterator[pd.Series]:
    for kind in _KINDS:
        limits = np.iinfo(kind)
        if limits.min <= low and high <= limits.max and (is_unsigned or kind[0] != "u"):
            if column.dtype.name in _NULLABLE:
                kind = kind.replace("int", "Int").replace("u", "U")
            yield column.astype(pd.api.types.pandas_dtype(kind))
            return


def _survives(values: Floats, tolerance: float) -> bool:
    """Return whether float32 holds each within the tolerance; what overflows never is."""
    with np.errstate(all="ignore"):
        back = values.astype(np.float32).astype(np.float64)
        same = (back == values) | np.isnan(values)
        # Divided, as a tolerance times a subnormal may round up to all of it.
        return bool((same | (np.abs(back - values) / np.abs(values) <= tolerance)).all())


def _is_whole(values: Floats) -> bool:
    """Return whether integers read the same; they have no NaN, no infinity and no -0.0."""
    is_negative_zero = (values == 0) & np.signbit(values)
    return bool((np.isfinite(values) & (values == np.trunc(values)) & ~is_negative_zero).all())


def _is_integer(column: pd.Series) -> bool:
    dtype = column.dtype
    return dtype.name in _NULLABLE or (isinstance(dtype, np.dtype) and dtype.kind in "iu")


def _is_text(column: pd.Series) -> bool:
    """Return whether all are text or NaN, which is what categories have for what is missing."""
    if isinstance(column.dtype, pd.StringDtype):
        return column.dtype.na_value is not pd.NA or not column.hasnans
    # Types and not `isinstance`: members of an enum of text would come back as one another.
    return (
        column.dtype == object
        and set(map(type, column)) <= {str, float}
        and pd.api.types.infer_dtype(column, skipna=True) == "string"
    )


def _is_price(name: Hashable) -> bool:
    return not PRICES.isdisjoint(_words(name)) and not _is_volume(name)


def _is_volume(name: Hashable) -> bool:
    # Asked before prices: ("Volume", "LOW") is of the symbol LOW.
    return not VOLUMES.isdisjoint(_words(name))


def _words(name: Hashable) -> set[str]:
    parts = name if isinstance(name, tuple) else (name,)
    return {str(part).strip().lower().replace(" ", "_") for part in parts}


def _assembled(frame: pd.DataFrame, columns: list[pd.Series]) -> pd.DataFrame:
    """Return a frame of its own memory: a copy with columns replaced would keep the old ones'."""
    # By row number: labels that repeat cannot be aligned, and looking them up grows the index. As
    # Series: of bare objects pandas would guess a type.
    rows = pd.RangeIndex(len(frame))
    numbered = {place: column.set_axis(rows) for place, column in enumerate(columns)}
    smaller = pd.DataFrame(numbered, index=rows, copy=True)
    smaller.index = frame.index
    smaller.columns = frame.columns
    return smaller.__finalize__(frame)  # type: ignore[operator,no-any-return]  # attrs and flags


def _change(old: pd.Series, new: pd.Series) -> Change:
    kinds = str(old.dtype), str(new.dtype)
    return Change(old.name, *kinds, _column_bytes(old), _column_bytes(new))


def _column_bytes(column: pd.Series) -> int:
    return int(column.memory_usage(index=False, deep=True))


def _frame_bytes(frame: pd.DataFrame) -> int:
    return int(frame.memory_usage(deep=True).sum())


def _shrinking(function: Callable[..., Any], *, aggressive: bool) -> Callable[..., Any]:
    called = _checked(function)
    name = getattr(function, "__qualname__", repr(function))
    shrink = functools.partial(_shrunk, name=name, aggressive=aggressive)
    if inspect.iscoroutinefunction(called):

        @functools.wraps(function)
        async def wait(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(shrink, await function(*args, **kwargs))

        return wait

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return shrink(function(*args, **kwargs))

    return call


def _checked(function: Any) -> Callable[..., Any]:
    """Return what runs when it is called; raises TypeError that names what to do instead."""
    if isinstance(function, pd.DataFrame):
        raise TypeError(
            "optimize_dataframe_memory decorates a function; a frame itself is made smaller by "
            "optimised(frame).frame"
        )
    if not callable(function) or isinstance(function, type | staticmethod):
        raise TypeError(
            f"optimize_dataframe_memory decorates a function, not a {type(function).__name__}: "
            "@optimize_dataframe_memory or @optimize_dataframe_memory(aggressive=True), below "
            "@staticmethod and @classmethod"
        )
    is_plain = inspect.isroutine(function) or isinstance(function, functools.partial)
    called: Callable[..., Any] = function if is_plain else function.__call__
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise TypeError(
            "optimize_dataframe_memory shrinks what a function returns, and a generator yields: "
            "yield optimised(frame).frame in it"
        )
    return called


def _shrunk(value: Any, name: str, aggressive: bool) -> Any:
    """Return the value with its frames optimised; itself is not changed."""

    def smaller(item: Any) -> Any:
        if not isinstance(item, pd.DataFrame) or not is_on(MEMORY_BASIC):
            return item
        found = optimised(item, aggressive=aggressive)
        logger.debug("frame.optimised", extra={"function": name, **_facts(found)})
        return found.frame

    if not isinstance(value, dict | list | tuple):
        return smaller(value)
    items = value.values() if isinstance(value, dict) else value
    if not any(isinstance(item, pd.DataFrame) for item in items):
        return value
    if isinstance(value, tuple):
        make = getattr(value, "_make", type(value))  # named tuples take their items one by one
        return make([smaller(item) for item in value])
    changed = copy.copy(value)  # of its own class
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        changed[key] = smaller(item)
    return changed


def _facts(found: Optimised) -> dict[str, Any]:
    return {
        "before_bytes": found.before_bytes,
        "after_bytes": found.after_bytes,
        "columns": [f"{c.name}: {c.before} to {c.after}" for c in found.columns],
    }
