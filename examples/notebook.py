"""Prices, bars and indicators over HTTP, as one would in a notebook: any Python, no Ray.

Start the service first: `make run`. It is found by the data directory, as `finstage` finds it; one
elsewhere: `python examples/notebook.py URL [KEY]`.
"""

from __future__ import annotations

import sys

import finstage


def main() -> None:
    """Print the last prices, a week of bars and an RSI."""
    # In a notebook write `market = finstage.Client()` and go on; it closes with the kernel.
    url = sys.argv[1] if len(sys.argv) > 1 else None
    key = sys.argv[2] if len(sys.argv) > 2 else None
    with finstage.Client(url, api_key=key) as market:
        # A row for each symbol; what failed has its reason in the column `error`.
        print(market.quotes(["AAPL", "MSFT", "IBM"]), end="\n\n")

        # A pandas frame: opened_at is the index, open, high, low, close, volume the columns.
        bars = market.history("AAPL", period="1y")
        weekly = bars["close"].resample("W").last().pct_change()
        print(bars.tail(), f"mean weekly return: {weekly.mean():.2%}", sep="\n", end="\n\n")

        # The same numbers that every other client of the service gets.
        answer = market.indicators("AAPL", indicators="rsi")
        print(f"RSI of {answer['symbol']}: {answer['indicators']['rsi']['current']:.1f}")

        # An error is one of finstage's, and helps: here it names AAPL.
        try:
            market.history("APPL")
        except finstage.SymbolUnknown as error:
            print(error)


if __name__ == "__main__":
    try:
        main()
    except finstage.FinstageError as error:
        sys.exit(f"{error}")
