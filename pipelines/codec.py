"""Arguments and results as text that any version can read: JSON, and Parquet for frames."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from typing import Any

import orjson

from infra.errors import TaskNotStorable

_JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
PARQUET, JSON = "parquet", "json"


def encoded(value: Any, what: str) -> bytes:
    """Return a value as JSON; raises TaskNotStorable, which names `what`.

    Dates and times become ISO text, numpy scalars and arrays numbers and lists, NaN null, tuples
    and sets of data lists.
    """
    try:
        return orjson.dumps(value, _plain, _JSON)
    except (TypeError, ValueError, RecursionError) as error:
        raise TaskNotStorable(f"{what} cannot be stored as JSON: {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return list(value)
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if hasattr(value, "item") and hasattr(value, "dtype"):  # of numpy, such as datetime64
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")


@dataclass(frozen=True, slots=True)
class Stored:
    """A result as it is kept: the kind of text or file, and its bytes."""

    kind: str
    data: bytes


def stored_result(value: Any, limit_bytes: int) -> Stored:
    """Return a result as it is kept: a frame as Parquet, anything else as JSON.

    Raises TaskNotStorable for what is neither, or too large.
    """
    pandas = sys.modules.get("pandas")  # who gives a frame has imported it
    if pandas is not None and isinstance(value, pandas.DataFrame):
        found = Stored(PARQUET, _parquet(value))
    else:
        found = Stored(JSON, encoded(value, "its result"))
    if len(found.data) > limit_bytes:
        raise TaskNotStorable(
            f"its result has {len(found.data):,} bytes, the limit is {limit_bytes:,} "
            "(FINSTAGE_TASK_RESULT_BYTES)"
        )
    return found


def loaded_result(kind: str, data: bytes) -> Any:
    """Return a result as its caller gets it."""
    if kind == PARQUET:
        import pandas as pd

        return pd.read_parquet(io.BytesIO(data))
    return orjson.loads(data)


def _parquet(frame: Any) -> bytes:
    buffer = io.BytesIO()
    try:
        frame.to_parquet(buffer)
    except Exception as error:  # pyarrow's many kinds
        reason = str(error).splitlines()[0]
        raise TaskNotStorable(f"its frame cannot be stored as Parquet: {reason}") from None
    return buffer.getvalue()
