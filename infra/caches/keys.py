"""Keys of calls: the function's full name and its arguments by value."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from infra.errors import KeyUnusable

_LONGEST = 200  # a key that is longer ends in a digest
_SHORT = (str, int, float, bool, type(None))
_BY_REPR = (bytes, complex, Decimal, date, datetime, time, timedelta, UUID, PurePath)


class CallKeys:
    """Makes the keys of one function's calls; the same call in another spelling has the same key.

    A method's `self` is an argument like any other: it needs a value, given by a method
    `cache_key()` of its class, or is left out with `ignore=("self",)`.
    """

    def __init__(self, function: Callable[..., Any], ignore: Iterable[str] = ()) -> None:
        self.name = f"{function.__module__}.{function.__qualname__}"
        self._signature = inspect.signature(function)
        self._ignored = frozenset(ignore)
        if unknown := self._ignored - set(self._signature.parameters):
            raise ValueError(f"ignore= names no argument of {self.name}: {sorted(unknown)}")

    def arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by name, defaults included; raises its TypeError."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments

    def key(self, arguments: Mapping[str, Any]) -> str:
        """Return the key; raises KeyUnusable, which names the argument that has no value."""
        parts = []
        for name, value in arguments.items():
            if name in self._ignored:
                continue
            try:
                parts.append(f"{name}={text_of(value)}")
            except TypeError as error:
                raise KeyUnusable(self.name, name, str(error)) from None
        return shortened(f"{self.name}({', '.join(parts)})")


def shortened(key: str) -> str:
    """Return a key of bounded length: a long one by its beginning and a digest of all of it."""
    if len(key) <= _LONGEST:
        return key
    return f"{key[:120]}…#{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}"


def text_of(value: Any) -> str:
    """Return a text that equal values share and others do not; raises TypeError if it has none."""
    kind = type(value)
    if kind in _SHORT:
        return repr(value)
    if isinstance(value, Enum):
        return f"{kind.__qualname__}.{value.name}"
    if kind in _BY_REPR or isinstance(value, PurePath):
        return repr(value)
    if kind in (list, tuple):
        ends = "[]" if kind is list else "()"
        return ends[0] + ",".join(text_of(part) for part in value) + ends[1]
    if kind in (set, frozenset):
        return "{" + ",".join(sorted(text_of(part) for part in value)) + "}"
    if isinstance(value, Mapping):
        pairs = sorted(f"{text_of(k)}:{text_of(v)}" for k, v in value.items())
        return "{" + ",".join(pairs) + "}"
    return _of_object(value, kind)


def _of_object(value: Any, kind: type) -> str:
    whole = f"{kind.__module__}.{kind.__qualname__}"
    if callable(own := getattr(value, "cache_key", None)) and not isinstance(value, type):
        return f"{whole}<{text_of(own())}>"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [f"{f.name}={text_of(getattr(value, f.name))}" for f in dataclasses.fields(value)]
        return f"{whole}({','.join(parts)})"
    if callable(dump := getattr(value, "model_dump", None)) and not isinstance(value, type):
        return f"{whole}({text_of(dump())})"
    found = _of_array(value) if "numpy" in sys.modules else None
    if found is None:
        raise TypeError(f"is a {whole}, which has no value to make a key of")
    return found


def _of_array(value: Any) -> str | None:
    import numpy as np

    if isinstance(value, np.generic):
        return f"{value.dtype}:{value.item()!r}"
    if isinstance(value, np.ndarray):
        return f"array[{_digest_of_array(value)}]"
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(value, (pandas.DataFrame, pandas.Series, pandas.Index)):
        return None
    if isinstance(value, pandas.DataFrame):
        columns = [
            text_of(value.index),
            text_of(list(value.columns)),
            text_of(list(value.columns.names)),
        ]
        columns += [_of_column(value.iloc[:, number]) for number in range(value.shape[1])]
        return f"frame[{_digest(columns)}]"
    if isinstance(value, pandas.Series):
        parts = [text_of(value.name), text_of(value.index), _of_column(value)]
        return f"series[{_digest(parts)}]"
    if isinstance(value, pandas.MultiIndex):
        levels = [_of_column(value.get_level_values(n)) for n in range(value.nlevels)]
        return f"index[{_digest([text_of(list(value.names)), *levels])}]"
    return f"index[{_digest([text_of(value.name), _of_column(value)])}]"


def _of_column(column: Any) -> str:
    """Return the values of a column and their type; text and objects value by value."""
    kind = column.dtype
    values = column.to_numpy()
    if values.dtype.hasobject:
        found = _digest([text_of(None if part is None else part) for part in values])
    else:
        found = _digest_of_array(values)
    return f"{kind}:{found}"


def _digest_of_array(array: Any) -> str:
    import numpy as np

    if array.dtype.hasobject:
        raise TypeError("holds an array of objects, which have no bytes to make a key of")
    digest = hashlib.blake2b(f"{array.dtype.str}{array.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")
    return digest.hexdigest()


def _digest(parts: Iterable[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part.encode())
        digest.update(b"\x00")
    return digest.hexdigest()
