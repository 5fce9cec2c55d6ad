"""Rows that left the store, in Parquet files that are whole or not there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra.files import replacing


def write_archive(folder: Path, name: str, rows: Sequence[dict[str, Any]], at: datetime) -> Path:
    """Write rows into a new file of `folder/name`, on the disk when this returns, and checked.

    Raises StoreError if the file cannot be written or does not hold the rows.
    """
    path = _free(folder / name, f"{name}-{at:%Y%m%d-%H%M%S}")
    with replacing(path) as new:
        pq.write_table(pa.Table.from_pylist(list(rows)), new)
        if pq.read_metadata(new).num_rows != len(rows):
            raise OSError("it would not hold all rows")
    return path


def _free(folder: Path, name: str) -> Path:
    number = 1
    while (path := folder / f"{name}-{number:04}.parquet").exists():
        number += 1
    return path
