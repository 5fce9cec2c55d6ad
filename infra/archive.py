"""Rows that left the store, in Parquet files that are whole or not there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def write_archive(folder: Path, name: str, rows: Sequence[dict[str, Any]], at: datetime) -> Path:
    """Write rows into a new file of `folder/name`, on the disk when this returns, and checked.

    Raises OSError if the file cannot be written or does not hold the rows.
    """
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    path = _free(target, f"{name}-{at:%Y%m%d-%H%M%S}")
    handle, temporary = tempfile.mkstemp(dir=target, prefix=".archive")
    try:
        with os.fdopen(handle, "wb") as file:
            pq.write_table(pa.Table.from_pylist(list(rows)), file)
            file.flush()
            os.fsync(file.fileno())
        if pq.read_metadata(temporary).num_rows != len(rows):
            raise OSError(f"{path} would not hold all rows")
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _free(folder: Path, name: str) -> Path:
    number = 1
    while (path := folder / f"{name}-{number:04}.parquet").exists():
        number += 1
    return path
