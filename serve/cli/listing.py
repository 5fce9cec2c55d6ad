"""Lists on a terminal, whole at any width, and as JSON for what comes after a pipe."""

from __future__ import annotations

from typing import Any

import orjson
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

_WIDEST = 10_000
_FOLDED_CHARS = 10  # least of a column that folds


def print_table(console: Console, table: Table) -> None:
    """Print a table with whole names: on a narrow terminal its lines are longer than that.

    What folds, folds first; a column that does not is never cut.
    """
    table.width = whole_width(console, table)
    console.print(table, soft_wrap=True)


def whole_width(console: Console, table: Table) -> int:
    """Return the width at which no name is cut; the terminal's, where that is enough."""
    wide = console.options.update(width=_WIDEST)
    most = Measurement.get(console, wide, table).maximum
    folding = [column for column in table.columns if not column.no_wrap]
    for column in folding:
        column.max_width = column.min_width or _FOLDED_CHARS
    least = Measurement.get(console, wide, table).minimum
    for column in folding:
        column.max_width = None
    return max(least, min(most, console.width))


def print_json(console: Console, rows: Any) -> None:
    """Print what the service answered, a line for a program to read."""
    console.print(orjson.dumps(rows).decode(), soft_wrap=True, markup=False, highlight=False)
