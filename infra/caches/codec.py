"""Values as bytes that another process can read: msgpack, Arrow for frames, never pickle."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgpack

from infra.errors import ValueNotShareable

_TUPLE, _SET, _FROZEN, _BIG, _MOMENT, _DATE, _SPAN, _DECIMAL = range(1, 9)
_ARRAY, _SCALAR, _FRAME, _SERIES = range(16, 20)


def encoded(value: Any) -> bytes:
    """Return a value as bytes that `decoded` gives back equal, types included.

    JSON's types, tuples, sets, dates, decimals, numpy arrays and scalars, pandas frames and
    series. Raises ValueNotShareable for anything else, subclasses of these included.
    """
    try:
        data: bytes = msgpack.packb(value, default=_special, strict_types=True)
    except ValueNotShareable:
        raise
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueNotShareable(str(error)) from None
    return data


def decoded(data: bytes) -> Any:
    """Return the value; raises ValueError for bytes that `encoded` did not make."""
    try:
        return msgpack.unpackb(data, ext_hook=_loaded, strict_map_key=False)
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
        raise ValueError(f"bytes of no value: {error}") from None


def _special(value: Any) -> msgpack.ExtType:
    kind = type(value)
    if kind is tuple:
        return _ext(_TUPLE, list(value))
    if kind in (set, frozenset):
        return _ext(_SET if kind is set else _FROZEN, list(value))
    if kind is int:
        return msgpack.ExtType(_BIG, str(value).encode())
    if kind is datetime and (value.tzinfo is None or value.utcoffset() is not None):
        if value.tzinfo is not None and value.tzinfo is not UTC:
            raise ValueNotShareable("times of other zones than UTC")
        return msgpack.ExtType(_MOMENT, value.isoformat().encode())
    if kind is date:
        return msgpack.ExtType(_DATE, value.isoformat().encode())
    if kind is timedelta:
        return _ext(_SPAN, [value.days, value.seconds, value.microseconds])
    if kind is Decimal:
        return msgpack.ExtType(_DECIMAL, str(value).encode())
    return _of_library(value)


def _of_library(value: Any) -> msgpack.ExtType:
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if numpy is not None and type(value) is numpy.ndarray and not value.dtype.hasobject:
        if value.dtype.names is None:
            array = numpy.ascontiguousarray(value)
            return _ext(_ARRAY, [array.dtype.str, list(value.shape), array.tobytes()])
    elif numpy is not None and isinstance(value, numpy.generic) and not value.dtype.hasobject:
        return _ext(_SCALAR, [value.dtype.str, value.tobytes()])
    elif pandas is not None and type(value) is pandas.DataFrame:
        return msgpack.ExtType(_FRAME, _frame_bytes(value))
    elif pandas is not None and type(value) is pandas.Series:
        frame = value.to_frame("value")
        return _ext(_SERIES, [value.name, _frame_bytes(frame)])
    kind = type(value)
    raise ValueNotShareable(f"{kind.__module__}.{kind.__qualname__} has no form in msgpack")


def _ext(code: int, parts: Any) -> msgpack.ExtType:
    return msgpack.ExtType(code, encoded(parts))


def _frame_bytes(frame: Any) -> bytes:
    """Return a frame in Arrow's stream format, if Arrow gives back the same frame."""
    import pyarrow as pa

    try:
        table = pa.Table.from_pandas(frame)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        if not _same_types(frame, table.to_pandas()):
            raise ValueNotShareable("a frame whose types Arrow does not keep")
    except (pa.ArrowException, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueNotShareable(f"a frame that Arrow cannot hold: {reason}") from None
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _same_types(frame: Any, other: Any) -> bool:
    return bool(
        (frame.dtypes.to_numpy() == other.dtypes.to_numpy()).all()
        and frame.columns.equals(other.columns)
        and frame.index.equals(other.index)
        and frame.index.dtype == other.index.dtype
        and frame.attrs == other.attrs
    )


def _loaded(code: int, data: bytes) -> Any:
    if code in (_BIG, _MOMENT, _DATE, _DECIMAL):
        text = data.decode()
        if code == _BIG:
            return int(text)
        if code == _MOMENT:
            return datetime.fromisoformat(text)
        return date.fromisoformat(text) if code == _DATE else Decimal(text)
    if code == _FRAME:
        return _frame(data)
    parts = decoded(data)
    if code == _TUPLE:
        return tuple(parts)
    if code in (_SET, _FROZEN):
        return set(parts) if code == _SET else frozenset(parts)
    if code == _SPAN:
        return timedelta(*parts)
    if code == _SERIES:
        return _frame(parts[1])["value"].rename(parts[0])
    import numpy as np

    if code == _SCALAR:
        return np.frombuffer(parts[1], parts[0])[0]
    if code == _ARRAY:
        return np.frombuffer(parts[2], parts[0]).reshape(parts[1]).copy()
    raise ValueError(f"an unknown kind of value, {code}")


def _frame(data: bytes) -> Any:
    import pyarrow as pa

    with pa.ipc.open_stream(data) as reader:
        return reader.read_all().to_pandas()
