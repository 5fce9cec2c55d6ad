"""Turns what a source says into messages for the hub."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson

from infra.bars import Quote
from infra.messages import PRICES, SOURCE_DATA, SYSTEM, Message
from infra.quotes import price_update
from infra.sources.base import Event, Source, Tick, VersionChanged


class FeedCore:
    """Messages of a source's events. State: the last price sent of each symbol, soft."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._sent: dict[str, float] = {}

    def messages(self, events: Iterable[Event]) -> list[Message]:
        """Return the messages of events in order; a run that starts over is told once."""
        messages: list[Message] = []
        restarted = False
        for event in events:
            if isinstance(event, Tick):
                messages.append(self._price(event.quote))
            else:
                if event.restarted and not restarted:
                    restarted = True
                    messages.append(_restart_notice(event, self._source.name))
                messages.append(_version(event.symbol, event.data_version))
        return messages

    def new_run(self, events: Iterable[Event]) -> str:
        """Return the data version that a source which starts over begins with, or nothing."""
        for event in events:
            if isinstance(event, VersionChanged) and event.restarted:
                return event.data_version
        return ""

    def state(self) -> list[Message]:
        """Return all that a hub which knows nothing needs: versions and last prices."""
        quotes = [self._source.quote(symbol) for symbol in self._source.symbols()]
        return [_version(q.symbol, q.data_version) for q in quotes] + [
            self._price(q) for q in quotes
        ]

    def _price(self, quote: Quote) -> Message:
        update = price_update(quote, self._sent.get(quote.symbol))
        self._sent[quote.symbol] = quote.price
        return Message(PRICES + quote.symbol, orjson.dumps(update))


def _version(symbol: str, data_version: str) -> Message:
    body = {"type": "data_version", "symbol": symbol, "data_version": data_version}
    return Message(SOURCE_DATA + symbol, orjson.dumps(body))


def _restart_notice(event: VersionChanged, source: str) -> Message:
    body = {
        "type": "system_status",
        "event": "data_restarted",
        "message": f"the {source} source started over; bars made since its start were dropped",
        "data_version": event.data_version,
        "source": source,
    }
    return Message(SYSTEM, orjson.dumps(body))


class MonitoredSet:
    """The symbols that jobs and monitors look at, in the order they were added."""

    def __init__(self, symbols: Sequence[str], limit: int) -> None:
        self._symbols = dict.fromkeys(symbols)
        self._limit = limit

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return the set."""
        return tuple(self._symbols)

    def add(self, symbols: Sequence[str]) -> bool:
        """Add symbols; False, and nothing added, if that were more than the limit."""
        grown = self._symbols | dict.fromkeys(symbols)
        if len(grown) > self._limit:
            return False
        self._symbols = grown
        return True

    def remove(self, symbols: Sequence[str]) -> None:
        """Remove symbols; those not in the set are no error."""
        for symbol in symbols:
            self._symbols.pop(symbol, None)
