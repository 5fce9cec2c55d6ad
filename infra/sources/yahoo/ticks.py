"""Stream messages and polls as one sequence of prices per symbol."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from infra.bars import Quote
from infra.calendars import calendar_for
from infra.sources.yahoo.pricing import PricingTick

_BEHIND_NS = 2 * 10**9  # a poll may overtake the stream by so much


class TickBook:
    """The last price of each symbol, and which news are news. State: soft.

    A message of the stream holds a price and a volume; what it lacks of the session (open, high,
    low, the close before) comes from the last poll, so a symbol that was never polled has no
    ticks yet. Prices before and after regular hours leave the session's own alone.
    """

    def __init__(self) -> None:
        self._last: dict[str, Quote] = {}
        self._extended: dict[str, Quote] = {}
        self._streamed_ns: dict[str, int] = {}

    def streamed(self, tick: PricingTick, now_ns: int) -> tuple[Quote | None, str]:
        """Return the quote that a message makes, or None and the kind of its rejection, if any."""
        last = self._last.get(tick.symbol)
        self._streamed_ns[tick.symbol] = max(tick.at_ns, self._streamed_ns.get(tick.symbol, 0))
        if last is None:
            return None, ""
        market = calendar_for(tick.symbol)
        part = market.part(tick.at_ns)
        is_regular = part in ("regular", "closed")
        book = self._last if is_regular else self._extended
        before = book.get(tick.symbol, last)
        if tick.at_ns < before.traded_at_ns:
            return None, "out_of_order"
        quote = replace(
            last,
            price=tick.price,
            traded_at_ns=tick.at_ns,
            received_at_ns=now_ns,
            market_status=market.status(tick.at_ns),
            session_part="regular" if is_regular else part,
            stale=False,
        )
        if is_regular:
            quote = _in_session(quote, last, tick, market.session_of(tick.at_ns))
        if quote == replace(before, received_at_ns=now_ns):
            return None, ""  # the same again
        book[tick.symbol] = quote
        return quote, ""

    def polled(self, quote: Quote) -> bool:
        """Take a poll's word; return whether it tells anything new.

        A poll that is older than the stream's last message only mends what the stream lacks.
        """
        last = self._last.get(quote.symbol)
        if last is not None and quote.traded_at_ns < last.traded_at_ns:
            self._last[quote.symbol] = replace(
                last, open=quote.open, previous_close=quote.previous_close
            )
            return False
        self._last[quote.symbol] = quote
        return last is None or _told(last) != _told(quote)

    def is_behind(self, quote: Quote) -> bool:
        """Return whether a poll is newer than the stream's last message of the symbol."""
        return quote.traded_at_ns > self._streamed_ns.get(quote.symbol, 0) + _BEHIND_NS


def _in_session(quote: Quote, last: Quote, tick: PricingTick, session: date | None) -> Quote:
    """Return the quote with the session's own figures, started anew if the session is new."""
    if session is not None and session != last.session:
        return replace(
            quote,
            session=session,
            previous_close=tick.previous_close or last.price,
            open=tick.open_price or tick.price,
            high=max(tick.price, tick.day_high or tick.price),
            low=min(tick.price, tick.day_low or tick.price),
            volume=tick.day_volume or 0,
        )
    return replace(
        quote,
        high=max(last.high, tick.price),
        low=min(last.low, tick.price),
        volume=max(last.volume, tick.day_volume or 0),
    )


def _told(quote: Quote) -> tuple[object, ...]:
    return quote.price, quote.volume, quote.session, quote.market_status, quote.previous_close
