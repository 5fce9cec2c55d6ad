"""Turns what a source says into messages for the hub, and knows whose ticks are wanted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import orjson

from infra.bars import Quote
from infra.errors import RangeInvalid
from infra.files import write_atomically
from infra.messages import (
    ACTIONS,
    ENDED,
    EXTENDED,
    GONE,
    PRICES,
    SOURCE_DATA,
    SYSTEM,
    Message,
)
from infra.quotes import price_update
from infra.sources.base import Action, ActionHappened, Event, Tick, VersionChanged
from infra.sources.trouble import Trouble


class FeedCore:
    """Messages of a source's events. State: the last price and version of each symbol, soft."""

    def __init__(self, source_name: str) -> None:
        self._source_name = source_name
        self._quotes: dict[str, Quote] = {}
        self._versions: dict[str, str] = {}
        self._extended: dict[str, Quote] = {}
        self._sent: dict[str, float] = {}
        self._trouble: Trouble | None = None
        self._told_trouble = False

    def messages(self, events: Iterable[Event]) -> list[Message]:
        """Return the messages of events in order; a run that starts over is told once."""
        messages: list[Message] = []
        restarted = False
        for event in events:
            if isinstance(event, Tick):
                messages.append(self._price(event.quote))
            elif isinstance(event, VersionChanged):
                if event.restarted and not restarted:
                    restarted = True
                    messages.append(_restart_notice(event, self._source_name))
                self._versions[event.symbol] = event.data_version
                messages.append(_version(event.symbol, event.data_version))
            elif isinstance(event, ActionHappened):
                messages.append(self._action(event.action))
        return messages

    @property
    def priced(self) -> frozenset[str]:
        """The symbols that a price was told of."""
        return frozenset(self._quotes)

    def news_of(self, trouble: Trouble | None, now_s: float) -> list[Message]:
        """Return what sockets are told of the source's state, if it is another than before."""
        before, now = self._trouble, trouble
        if (before and before.cause) == (now and now.cause):
            return []
        self._trouble, self._told_trouble = now, True
        return [_state_notice(now, self._source_name, now_s)]

    def new_run(self, events: Iterable[Event]) -> str:
        """Return the data version that a source which starts over begins with, or nothing."""
        for event in events:
            if isinstance(event, VersionChanged) and event.restarted:
                return event.data_version
        return ""

    def forget(self, symbol: str) -> list[Message]:
        """Return the messages that end a symbol which there is no longer."""
        for known in (self._quotes, self._versions, self._extended, self._sent):
            known.pop(symbol, None)
        return [Message(PRICES + symbol, ENDED), _version(symbol, GONE)]

    def state(self, now_s: float) -> list[Message]:
        """Return all that a hub which knows nothing needs: versions, last prices, trouble.

        That the source answers is said where the hub may have heard, or missed, that it did not.
        """
        messages = [_version(*pair) for pair in self._versions.items()]
        messages += map(self._price, (*self._quotes.values(), *self._extended.values()))
        if self._told_trouble:
            messages.append(_state_notice(self._trouble, self._source_name, now_s))
        return messages

    def _action(self, action: Action) -> Message:
        """Say that prices are on a new scale: what a client holds from before must be rebased."""
        self._sent.pop(action.symbol, None)  # the price before is on the old scale
        body = {
            "type": "corporate_action",
            "symbol": action.symbol,
            "kind": action.kind,
            "ex_date": action.ex_date.isoformat(),
            "value": action.value,
            "price_step": action.price_step,
            "data_version": self._versions.get(action.symbol),
            "source": self._source_name,
            "message": "bars of before are rebased: take the history again",
        }
        return Message(ACTIONS + action.symbol, orjson.dumps(body))

    def _price(self, quote: Quote) -> Message:
        update = price_update(quote, self._sent.get(quote.symbol))
        self._sent[quote.symbol] = quote.price
        if quote.session_part != "regular":  # of which nobody makes bars or alerts
            self._extended[quote.symbol] = quote
            return Message(EXTENDED + quote.symbol, orjson.dumps(update))
        self._quotes[quote.symbol] = quote
        return Message(PRICES + quote.symbol, orjson.dumps(update))


def _version(symbol: str, data_version: str) -> Message:
    body = {"type": "data_version", "symbol": symbol, "data_version": data_version}
    return Message(SOURCE_DATA + symbol, orjson.dumps(body))


def _state_notice(trouble: Trouble | None, source: str, now_s: float) -> Message:
    body = {
        "type": "system_status",
        "event": "source_state",
        "message": f"{source} answers" if trouble is None else trouble.sentence(now_s),
        "source": source,
        "status": "ok" if trouble is None else "degraded",
        "trouble": None if trouble is None else trouble.body(now_s),
    }
    return Message(SYSTEM, orjson.dumps(body))


def _restart_notice(event: VersionChanged, source: str) -> Message:
    body = {
        "type": "system_status",
        "event": "data_restarted",
        "message": f"the {source} source started over; bars made since its start were dropped",
        "data_version": event.data_version,
        "source": source,
    }
    return Message(SYSTEM, orjson.dumps(body))


def check_room(symbols: Collection[str], limit: int) -> None:
    """Raise RangeInvalid for more symbols than the limit."""
    if len(symbols) > limit:
        raise RangeInvalid(("body", "symbols"), f"more than {limit} symbols", limit)


class MonitoredSet:
    """The symbols that jobs and monitors look at, in the order they were added.

    State: hard, a file that is written before a change is; each change raises StoreError.
    """

    def __init__(self, file: Path, symbols: Sequence[str], limit: int) -> None:
        self._file = file
        self._symbols = dict.fromkeys(symbols)
        self._limit = limit

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return the set."""
        return tuple(self._symbols)

    def add(self, symbols: Sequence[str]) -> None:
        """Add symbols; raises RangeInvalid, and adds none, if that were more than the limit."""
        grown = self._symbols | dict.fromkeys(symbols)
        check_room(grown, self._limit)
        self._save(grown)

    def remove(self, symbols: Sequence[str]) -> None:
        """Remove symbols; those not in the set are no error."""
        self._save({symbol: None for symbol in self._symbols if symbol not in symbols})

    def _save(self, symbols: dict[str, None]) -> None:
        write_atomically(self._file, orjson.dumps({"symbols": list(symbols)}))
        self._symbols = symbols


class Interest:
    """Which symbols somebody asked for lately: each ask is good for `lease_s` seconds.

    Over `limit` symbols the ones asked for longest ago are let go. `now_s` never goes back.
    """

    def __init__(self, lease_s: float, limit: int) -> None:
        self._lease_s = lease_s
        self._limit = limit
        self._until_s: dict[str, float] = {}  # in the order of the last ask

    def note(self, symbols: Iterable[str], now_s: float) -> None:
        """Remember that these were asked for."""
        for symbol in symbols:
            self._until_s.pop(symbol, None)
            self._until_s[symbol] = now_s + self._lease_s
        while len(self._until_s) > self._limit:
            del self._until_s[next(iter(self._until_s))]

    def symbols(self, now_s: float) -> frozenset[str]:
        """Return those whose lease goes on; the others are forgotten."""
        for symbol in [s for s, until_s in self._until_s.items() if until_s <= now_s]:
            del self._until_s[symbol]
        return frozenset(self._until_s)
