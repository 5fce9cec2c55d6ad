"""Prices as they come, over WebSocket: any Python, no Ray.

Start the service first: `make run`. It is found by the data directory, as `finstage` finds it; one
elsewhere: `python examples/stream.py URL [KEY]`.
"""

from __future__ import annotations

import asyncio
import sys

import finstage


async def main() -> None:
    """Print each change of two symbols until interrupted."""
    url = sys.argv[1] if len(sys.argv) > 1 else None
    key = sys.argv[2] if len(sys.argv) > 2 else None
    stream = finstage.StreamClient(url, api_key=key)
    # It reconnects by itself and gets what it missed; mode "all" leaves no message out.
    async for update in stream.subscribe(["AAPL", "MSFT"], max_rate_hz=2):
        if update["type"] == "price_update":
            change = update["change_percent"] or 0.0
            print(f"{update['symbol']:6} {update['current_price']:10.2f} {change:+.2f} %")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print()
    except finstage.FinstageError as error:
        sys.exit(f"{error}")
