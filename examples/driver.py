"""Analyse three symbols as a Ray driver of the Finstage that runs on this machine.

Start one first: `make run`. A driver shares Ray's version and Python's with the service; from
any other Python use `finstage.Client`, as in notebook.py.
"""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

import finstage

SYMBOLS = ["AAPL", "MSFT", "IBM"]


def main() -> None:
    """Join, ask once for all three, print a table."""
    # Ray's address and token are found in the service's data directory (FINSTAGE_DATA_DIR).
    with finstage.connect() as market:
        analyses = market.analyze(SYMBOLS, period="3mo")

    table = Table("symbol", "price", "change %", "RSI", "SMA 20", "MACD", title="3 months")
    for symbol, analysis in analyses.items():
        # A symbol that failed says why, and does not spoil the others.
        if "error" in analysis:
            table.add_row(symbol, analysis["error"]["message"])
            continue
        values = analysis["indicators"]
        table.add_row(
            symbol,
            shown(analysis["current_price"]),
            shown(analysis["price_change_pct"]),
            shown(values["rsi"]["current"]),
            shown(values["sma"]["20"]),
            analysis["signals"]["macd"] or "",
        )
    Console().print(table)


def shown(value: float | None) -> str:
    """Return a number with two decimals; too few bars give none."""
    return "-" if value is None else f"{value:,.2f}"


if __name__ == "__main__":
    try:
        main()
    except finstage.FinstageError as error:
        sys.exit(f"{error}")
