"""Submit background work from a driver or a notebook, and watch it.

Start a Finstage first: `make run`. In a notebook's cell the same calls are awaited:
`await handle.result()`.
"""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import Progress

import finstage

SYMBOLS = ["AAPL", "IBM"]


def main() -> None:
    """Analyse the market with a progress bar, then make a report of what is there."""
    console = Console()
    with finstage.connect():
        handle = finstage.submit("market_analysis")  # stored when this returns
        with Progress(console=console) as bars:
            bar = bars.add_task("market_analysis", total=100)
            while (shown := handle.progress())["status"] in ("pending", "running", "retrying"):
                bars.update(bar, completed=shown["progress"], description=shown["message"])
                time.sleep(0.1)
            bars.update(bar, completed=100, description="market_analysis")
        analysis = handle.result()
        for stage in ("market_sentiment", "sector_analysis", "predictions", "risk_assessment"):
            for finding in analysis[stage]["key_findings"]:
                console.print(f"{stage}: {finding}", highlight=False)

        # A function of your own, of this file: its code goes through Ray, nothing is stored.
        @finstage.task(durable=False)
        def spread(closes: list[float]) -> float:
            return max(closes) - min(closes)

        console.print("spread", spread([1.0, 4.5, 2.0]).result(timeout_s=60))


if __name__ == "__main__":
    try:
        main()
    except finstage.FinstageError as error:
        sys.exit(f"{error}")
