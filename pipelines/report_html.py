"""Reports as HTML that stands alone: no script, no other file, charts as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from infra.bars import Floats

_WIDTH, _HEIGHT, _EDGE = 640, 160, 4
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:760px;margin:2rem auto;padding:0 1rem;
color:#1c2733}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin:2rem 0 .3rem}
table{border-collapse:collapse;width:100%}td,th{padding:.25rem .6rem;text-align:right;
border-bottom:1px solid #dde3ea}td:first-child,th:first-child{text-align:left}
.up{color:#0a7d4f}.down{color:#b3261e}svg{width:100%;height:auto;background:#f6f8fa}
small{color:#5b6b7b}
@media(prefers-color-scheme:dark){body{background:#11161c;color:#dde5ee}svg{background:#1a212a}
td,th{border-color:#2b3540}.up{color:#3ecf8e}.down{color:#ff7b72}}
"""
_COLUMNS = (
    ("price", "current_price"),
    ("change %", "change_percent"),
    ("volume", "volume"),
    ("score", "technical_score"),
)


def report_page(
    title: str, note: str, rows: Mapping[str, Mapping[str, Any]], lines: Mapping[str, Floats]
) -> str:
    """Return a page: a table of all symbols, then each with a chart of its closes.

    All text is escaped. A symbol whose row has an `error` shows that.
    """
    head = "".join(f"<th>{escape(name)}</th>" for name, _ in _COLUMNS)
    table = "".join(_row(symbol, row) for symbol, row in rows.items())
    charts = "".join(_section(symbol, lines[symbol]) for symbol in rows if symbol in lines)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1><p><small>{escape(note)}</small></p>"
        f"<table><tr><th>symbol</th>{head}</tr>{table}</table>{charts}</body></html>"
    )


def _row(symbol: str, row: Mapping[str, Any]) -> str:
    if "error" in row:
        message = escape(str(row["error"]))
        return f'<tr><td>{escape(symbol)}</td><td colspan="{len(_COLUMNS)}">{message}</td></tr>'
    cells = "".join(f"<td{_colour(key, row)}>{_shown(row.get(key))}</td>" for _, key in _COLUMNS)
    return f"<tr><td>{escape(symbol)}</td>{cells}</tr>"


def _colour(key: str, row: Mapping[str, Any]) -> str:
    value = row.get(key)
    if key != "change_percent" or not isinstance(value, float | int) or not np.isfinite(value):
        return ""
    return ' class="up"' if value >= 0 else ' class="down"'


def _shown(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if isinstance(value, float) and np.isfinite(value) else "–"


def _section(symbol: str, closes: Floats) -> str:
    return f"<h2>{escape(symbol)}</h2>{line_chart(closes, f'closes of {symbol}')}"


def line_chart(values: Floats | Sequence[float], label: str) -> str:
    """Return an SVG of a line from the least to the greatest value; nothing for less than two."""
    line = np.asarray(values, dtype=float)
    line = line[np.isfinite(line)]
    if len(line) < 2:
        return ""
    low, high = float(np.min(line)), float(np.max(line))
    span = (high - low) or 1.0
    x = np.linspace(_EDGE, _WIDTH - _EDGE, len(line))
    y = _EDGE + (_HEIGHT - 2 * _EDGE) * (high - line) / span
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    colour = "#0a7d4f" if line[-1] >= line[0] else "#b3261e"
    about = escape(f"{label}: {low:,.2f} to {high:,.2f}, last {line[-1]:,.2f}")
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{about}">'
        f"<title>{about}</title>"
        f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/></svg>'
        f"<small>{about}</small>"
    )
