"""What a value really takes: arrays, frames and what containers hold, each object once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

_LEAVES = (int, float, complex, bool, str, bytes, bytearray, type(None))
_NOT_ITS_OWN = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType)  # the process's


def size_bytes(value: Any) -> int:
    """Return the bytes that would be free again if `value` and all that it holds went away.

    A view counts its whole base, which it keeps alive. Code and classes count nothing. What an
    extension hides from Python is not seen.
    """
    if type(value) in _LEAVES:
        return sys.getsizeof(value)
    total, seen, waiting = 0, set[int](), [value]
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, _NOT_ITS_OWN):
            continue
        seen.add(id(item))
        own = _of_library(item, seen)
        if own is not None:
            total += own
            continue
        total += sys.getsizeof(item)
        if type(item) not in _LEAVES:
            waiting.extend(_parts(item))
    return total


def _of_library(item: Any, seen: set[int]) -> int | None:
    """Return the size of an array, frame or table; None for anything else."""
    numpy, pandas, arrow = (sys.modules.get(name) for name in ("numpy", "pandas", "pyarrow"))
    if numpy is not None and isinstance(item, numpy.ndarray):
        return _of_array(item, seen)
    if pandas is not None and isinstance(item, pandas.DataFrame):
        return int(item.memory_usage(index=True, deep=True).sum()) + sys.getsizeof(object())
    if pandas is not None and isinstance(item, pandas.Series):
        return int(item.memory_usage(index=True, deep=True))
    if pandas is not None and isinstance(item, pandas.Index):
        return int(item.memory_usage(deep=True))
    if arrow is not None and isinstance(item, (arrow.Table, arrow.RecordBatch, arrow.Array)):
        return int(item.get_total_buffer_size())
    return None


def _of_array(array: Any, seen: set[int]) -> int:
    base, size = array, 0
    while getattr(base, "base", None) is not None and hasattr(base.base, "nbytes"):
        base = base.base
    if id(base) not in seen or base is array:
        seen.add(id(base))
        size = int(base.nbytes)
    if array.dtype.hasobject:
        size += sum(size_bytes(part) for part in array.ravel())
    return size + 112  # the array's own header


def _parts(item: Any) -> Iterator[Any]:
    if isinstance(item, dict):
        yield from item.keys()
        yield from item.values()
    elif isinstance(item, (list, tuple, set, frozenset)) or hasattr(item, "popleft"):
        yield from item
    if (attributes := getattr(item, "__dict__", None)) is not None:
        yield attributes
    for cls in type(item).__mro__:
        names = cls.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if name not in ("__dict__", "__weakref__") and hasattr(item, name):
                yield getattr(item, name)
