"""Minute bars made from ticks, told as they close, and revised when a gap is repaired."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from infra.bars import Bars, Quote
from infra.clock import utc
from infra.messages import BARS, Message
from infra.tick_bars import BarBuilder, BarUpdate


class MinuteBars:
    """Bars of one minute of every symbol that ticks, from regular hours only.

    State: soft, the last 2,000 bars of each symbol. A bar is told once when its minute is over,
    and again with a higher `revision` whenever it turns out to be another.
    """

    def __init__(self, source_name: str) -> None:
        self._source_name = source_name
        self._builder = BarBuilder()

    def take(self, quotes: Iterable[Quote]) -> list[Message]:
        """Take ticks in order; return what bars they close or revise."""
        updates: list[BarUpdate] = []
        for quote in quotes:
            if quote.session_part == "regular" and not quote.stale:
                updates += self._builder.add(
                    quote.symbol, quote.traded_at_ns, quote.price, quote.volume, quote.session
                )
        return self._messages(updates)

    def close_due(self, now_ns: int) -> list[Message]:
        """Return the bars whose minute is over, though no later tick has come."""
        return self._messages(self._builder.close_due(now_ns))

    def repair(self, symbol: str, bars: Bars) -> list[Message]:
        """Compare with the source's own bars; return those that were missing or differed."""
        return self._messages(self._builder.repair(symbol, bars))

    def _messages(self, updates: Iterable[BarUpdate]) -> list[Message]:
        return [
            Message(BARS + u.symbol, orjson.dumps(bar_update(u, self._source_name)))
            for u in updates
        ]


def bar_update(update: BarUpdate, source: str) -> dict[str, object]:
    """Return the `bar_update` object of a bar; `timestamp` is its opening, UTC."""
    return {
        "type": "bar_update",
        "symbol": update.symbol,
        "interval": "1m",
        "timestamp": utc(update.opened_at_ns // 10**9).isoformat(),
        "open": update.open,
        "high": update.high,
        "low": update.low,
        "close": update.close,
        "volume": update.volume,
        "revision": update.revision,
        "source": source,
    }
