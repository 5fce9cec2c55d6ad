"""Bars as CSV, Parquet or Arrow, for those who ask for it."""

from __future__ import annotations

import io
from typing import Any, Literal, get_args

from starlette.responses import Response

from infra.bars import BarSeries, Floats, Ints
from infra.sources.origin import origin_of

Format = Literal["json", "csv", "parquet", "arrow"]

MEDIA_TYPES = {
    "json": "application/json",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.stream",
}
DOCUMENTED: dict[str, Any] = {
    MEDIA_TYPES["csv"]: {"schema": {"type": "string"}},
    MEDIA_TYPES["parquet"]: {"schema": {"type": "string", "format": "binary"}},
    MEDIA_TYPES["arrow"]: {"schema": {"type": "string", "format": "binary"}},
}


def accepted(header: str) -> Format:
    """Return the format that an Accept header prefers; json where it names none of ours.

    Of equal weights the first one named counts.

    >>> accepted("text/html, text/csv;q=0.9")
    'csv'
    """
    best: tuple[float, Format] = (0.0, "json")
    for part in header.split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        weight = next((_weight(p) for p in parameters if p.startswith("q=")), 1.0)
        for name in get_args(Format):
            if media == MEDIA_TYPES[name] and weight > best[0]:
                best = weight, name
    return best[1]


def _weight(parameter: str) -> float:
    try:
        return float(parameter.removeprefix("q="))
    except ValueError:
        return 0.0


def response(series: BarSeries, wanted: Format, symbol: str) -> Response:
    """Return bars as a table: opened_at (UTC), open, high, low, close, volume.

    Where they come from is in the headers and, but for CSV, in the table's metadata.
    """
    body = _encoded(series, wanted)
    headers = {
        "cache-control": "no-store",
        "vary": "accept",
        "x-source": series.source,
        "x-source-label": origin_of(series.source).label,
        "x-data-version": series.data_version,
        "x-stale": str(series.stale_since_s is not None).lower(),
        "content-disposition": f'attachment; filename="{symbol}.{wanted}"',
    }
    return Response(body, media_type=MEDIA_TYPES[wanted], headers=headers)


def table_response(
    opened_at_ns: Ints,
    columns: dict[str, Floats],
    wanted: Format,
    name: str,
    about: dict[str, str],
) -> Response:
    """Return columns by the time their bars opened (UTC); NaN is null, in CSV nothing."""
    import pyarrow

    opened_at = pyarrow.array(opened_at_ns).cast(pyarrow.timestamp("ns", "UTC"))
    lines = {key: pyarrow.array(line, from_pandas=True) for key, line in columns.items()}
    body = _written(pyarrow.table({"opened_at": opened_at} | lines), wanted, about)
    headers = {
        "cache-control": "no-store",
        "vary": "accept",
        "content-disposition": f'attachment; filename="{name}.{wanted}"',
    } | {f"x-{key.replace('_', '-')}": value for key, value in about.items()}
    return Response(body, media_type=MEDIA_TYPES[wanted], headers=headers)


def _encoded(series: BarSeries, wanted: Format) -> bytes:
    # Here, as only who asks for a table should pay for pyarrow (about 50 MB).
    import pyarrow

    bars = series.bars
    opened_at = pyarrow.array(bars.opened_at_ns).cast(pyarrow.timestamp("ns", "UTC"))
    names = ("open", "high", "low", "close", "volume")
    about = {
        "source": series.source,
        "source_label": origin_of(series.source).label,
        "data_version": series.data_version,
    }
    table = pyarrow.table({"opened_at": opened_at} | {n: getattr(bars, n) for n in names})
    return _written(table, wanted, about)


def _written(table: Any, wanted: Format, about: dict[str, str]) -> bytes:
    import pyarrow
    from pyarrow import csv, parquet

    sink = io.BytesIO()
    if wanted == "csv":
        opened_at = table["opened_at"]
        whole_s = opened_at.cast(pyarrow.timestamp("s", "UTC"))
        csv.write_csv(table.set_column(0, "opened_at", whole_s), sink)
    elif wanted == "parquet":
        parquet.write_table(table.replace_schema_metadata(about), sink)
    else:
        table = table.replace_schema_metadata(about)
        with pyarrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    return sink.getvalue()
