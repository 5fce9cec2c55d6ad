"""The price some seconds ago."""

from __future__ import annotations

from collections import deque


class PriceWindow:
    """Prices of one symbol by the market's time, one a second, as far back as is asked for.

    `at_s` is Unix seconds. Times that go back begin anew: what was before is of another run.
    """

    __slots__ = ("_prices", "_window_s")

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._prices: deque[tuple[float, float]] = deque()

    def base(self, at_s: float, price: float) -> float | None:
        """Return the last price of a window ago or before, and note this one.

        None where none is that old. Of one second the first price counts.
        """
        prices = self._prices
        if prices and at_s < prices[-1][0]:
            prices.clear()
        while len(prices) > 1 and prices[1][0] <= at_s - self._window_s:
            prices.popleft()
        base = prices[0][1] if prices and prices[0][0] <= at_s - self._window_s else None
        if not prices or at_s - prices[-1][0] >= 1.0:
            prices.append((at_s, price))
        return base

    def clear(self) -> None:
        """Forget all: prices are on another scale from now on."""
        self._prices.clear()
