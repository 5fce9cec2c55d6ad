"""What a client may say on `/ws/realtime`, and what it is answered."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from actors.indicators.client import LiveWant
from infra.clock import utc
from infra.errors import (
    ExpressionInvalid,
    FinstageError,
    IntervalUnsupported,
    ParameterInvalid,
    RangeInvalid,
    SymbolUnknown,
)
from infra.messages import EXTENDED, PRICES, TECHNICAL, Position
from infra.periods import INTERVALS
from infra.sources.origin import origin_of
from infra.symbols import nearest
from serve.ws.frames import ENCODINGS, Frame, encoded
from serve.ws.outbox import Outbox, Taking
from serve.ws.requests import (
    EVERY_KIND,
    LIVE,
    MEMBERS,
    PREFIXES,
    TYPES,
    ProtocolError,
    Subscribe,
    checked_action,
    checked_type,
    history_request,
    parsed,
    subscription,
    symbols_of,
)
from serve.ws.sockets import SocketTable
from serve.ws.takers import EVERYTHING

_NOT_COMPUTED = (ExpressionInvalid, IntervalUnsupported, ParameterInvalid, RangeInvalid)
_PRICE_FIELDS = ("symbol", "change_amount", "change_percent", "timestamp")


@dataclass(frozen=True, slots=True)
class Terms:
    """What every session of a replica knows: the source, limits, categories of symbols.

    `intervals`: those that the source has bars of.
    """

    source: str
    max_symbols: int
    categories: tuple[str, ...] = ()
    intervals: tuple[str, ...] = INTERVALS


class Session:
    """One client's conversation. State: its subscriptions, gone with the socket."""

    def __init__(
        self,
        client_id: str,
        table: SocketTable,
        outbox: Outbox,
        terms: Terms,
        connected_s: float = 0.0,
    ) -> None:
        self.client_id = client_id
        self._table = table
        self._outbox = outbox
        self._terms = terms
        self._connected_s = connected_s
        self._heard_s = connected_s
        self._messages = 0
        self._errors = 0
        self._refused: dict[str, FinstageError] = {}
        self._refused_live: dict[LiveWant, FinstageError] = {}

    # -- before a reply -----------------------------------------------------------------------

    def asked(self, text: str | bytes) -> Subscribe | None:
        """Return the subscription that a message asks for, if it is one without a fault."""
        with contextlib.suppress(ProtocolError):
            request = parsed(text)
            if checked_action(request) == "subscribe":
                return self._subscription(request)
        return None  # what is wrong with it is said in the reply

    def new_symbols(self, asked: Subscribe) -> list[str]:
        """Return the symbols of a subscription that no price was ever told of."""
        named = asked.named[: self._terms.max_symbols]
        return [symbol for symbol in named if not self._table.knows(symbol)]

    def meet(self, symbols: Sequence[str], refused: dict[str, FinstageError]) -> None:
        """Take the feed's word for what the next message subscribes to.

        Symbols that are not refused can be subscribed to; of the others the next message that
        names them asks again, as they may be known by then.
        """
        self._refused = refused
        self._table.meet(s for s in symbols if s not in refused)

    def meet_live(self, refused: dict[LiveWant, FinstageError]) -> None:
        """Take the indicators' word for what the next message subscribes to."""
        self._refused_live = refused

    # -- replies ------------------------------------------------------------------------------

    def welcome(self) -> Frame:
        """Return the first message of a connection."""
        return encoded(
            {
                "type": "system_status",
                "message": f"connected to Finstage, source {origin_of(self._terms.source).label}",
                "client_id": self.client_id,
                "source": self._terms.source,
                "available_actions": tuple(MEMBERS),
                "subscription_types": TYPES,
                "epoch": self._table.position.epoch,
                "offset": self._table.position.offset,
            },
            self._outbox.encoding,
        )

    def reply(self, text: str | bytes, server_time_s: float) -> Frame:
        """Carry out one message and return the answer; an error is an answer too."""
        request: dict[str, Any] = {}
        self._messages += 1
        self._heard_s = server_time_s
        try:
            request = parsed(text)
            answer = self._handler(request)(request, server_time_s)
        except ProtocolError as error:
            self._errors += 1
            self._table.errors += 1
            answer = {"type": "error", "code": error.code, "message": error.message}
        self._refused, self._refused_live = {}, {}
        if isinstance(request.get("id"), str | int):
            answer["id"] = request["id"]
        return encoded(answer, self._outbox.encoding)

    def stats(self, now_s: float) -> dict[str, Any]:
        """Return what is said of this client."""
        topics = self._outbox.topics
        kinds = [kind for kind, prefix in PREFIXES.items() if _any_of(topics, prefix)]
        return {
            "client_id": self.client_id,
            "connected_at": utc(self._connected_s).isoformat(),
            "connection_duration_seconds": now_s - self._connected_s,
            "last_heartbeat": self._heard_s,
            "subscriptions": sorted({topic.partition(":")[2] for topic in topics}),
            "subscription_types": kinds,
            "message_count": self._messages,
            "error_count": self._errors,
            "is_active": True,
        }

    def _handler(
        self, request: dict[str, Any]
    ) -> Callable[[dict[str, Any], float], dict[str, Any]]:
        handler: Callable[[dict[str, Any], float], dict[str, Any]]
        handler = getattr(self, f"_{checked_action(request)}")
        return handler

    def _subscription(self, request: dict[str, Any]) -> Subscribe:
        return subscription(request, self._terms.categories, self._terms.intervals)

    def _subscribe(self, request: dict[str, Any], _: float) -> dict[str, Any]:
        asked = self._subscription(request)
        self._check_known(asked.named)
        self._check_live(asked.wants)
        topics = asked.topics()
        total = len(self._outbox.topics.keys() | topics.keys())
        if total > self._terms.max_symbols:
            most = self._terms.max_symbols
            raise ProtocolError(106, f"a socket takes {most} symbols, this would make {total}")
        if request.get("encoding") in ENCODINGS:
            self._outbox.encoding = asked.format.encoding
        more = self._begun(topics, asked.recover, asked.after_alert)
        self._outbox.live |= asked.live()
        return self._result("subscribed", asked.kind, list(asked.symbols)) | more

    def _begun(
        self, topics: dict[str, Taking], since: Position | None, after_alert: int | None
    ) -> dict[str, Any]:
        """Begin a subscription; return what a client begins with."""
        table, outbox = self._table, self._outbox
        if since is None:
            return {"snapshot": table.subscribe(outbox, topics)}
        place = table.recover(outbox, topics, since, after_alert or 0)
        if place is None:
            return {"recovered": False, "snapshot": table.subscribe(outbox, topics, after_alert)}
        # What was missed follows as frames, each with its own offset.
        return {"recovered": True, "offset": place.offset, "snapshot": []}

    def _unsubscribe(self, request: dict[str, Any], _: float) -> dict[str, Any]:
        given = request.get("type")
        kind = EVERY_KIND if given is None else checked_type(given)
        kinds = tuple(PREFIXES) if kind == EVERY_KIND else (kind,)
        prefixes = tuple(PREFIXES[kind] for kind in kinds)
        if PRICES in prefixes:
            prefixes += (EXTENDED,)
        symbols = symbols_of(request, self._terms.categories)
        held = sorted(topic for topic in self._outbox.topics if topic.startswith(prefixes))
        named = [prefix + symbol for prefix in prefixes for symbol in symbols]
        subjects = tuple(f"{TECHNICAL}{symbol}:" for symbol in symbols)
        named += [topic for topic in held if subjects and topic.startswith(subjects)]
        self._table.unsubscribe(self._outbox, named or held)
        return self._result("unsubscribed", kinds[0] if given is None else kind, symbols)

    def _heartbeat(self, _: dict[str, Any], server_time_s: float) -> dict[str, Any]:
        return {"type": "heartbeat", "message": "pong", "server_time": server_time_s}

    def _get_status(self, _: dict[str, Any], server_time_s: float) -> dict[str, Any]:
        return {
            "type": "system_status",
            "client_stats": self.stats(server_time_s),
            "websocket_manager_stats": self._table.stats(server_time_s),
            "price_streamer_stats": self._table.streamer_stats(server_time_s),
        }

    def _get_current_prices(self, request: dict[str, Any], now_s: float) -> dict[str, Any]:
        symbols = [s for s in symbols_of(request, ()) if s != EVERYTHING]
        self._check_known(symbols)
        return {
            "type": "price_update",
            "action": "current_prices",
            "prices": dict.fromkeys(symbols) | self._table.prices(symbols),
            "timestamp": utc(now_s).isoformat(),
        }

    def _get_price_history(self, request: dict[str, Any], _: float) -> dict[str, Any]:
        symbol, limit = history_request(request)
        self._check_known([symbol])
        rows = [
            {"price": update["current_price"]} | {name: update[name] for name in _PRICE_FIELDS}
            for update in self._table.history(symbol, limit)
        ]
        return {
            "type": "price_update",
            "action": "price_history",
            "symbol": symbol,
            "history": rows,
            "count": len(rows),
        }

    def _result(self, action: str, kind: str, symbols: list[str]) -> dict[str, Any]:
        # Of one type its symbols, of all types whole topics.
        prefix = PREFIXES.get(kind, "")
        held = sorted(t.removeprefix(prefix) for t in self._outbox.topics if t.startswith(prefix))
        return {
            "type": "subscription",
            "action": action,
            "subscription_type": kind,
            "symbols": symbols,
            "subscriptions": held,
            "epoch": self._table.position.epoch,
            "offset": self._table.position.offset,
            "message": f"{action}: {', '.join(symbols) or 'all'}",
        }

    # -- checks -------------------------------------------------------------------------------

    def _check_live(self, wants: Sequence[LiveWant]) -> None:
        refused = next((self._refused_live[w] for w in wants if w in self._refused_live), None)
        if refused is not None:
            is_wrong = isinstance(refused, _NOT_COMPUTED)
            code = 109 if is_wrong else 105 if isinstance(refused, SymbolUnknown) else 107
            raise ProtocolError(code, refused.message)

    def _check_known(self, symbols: Sequence[str]) -> None:
        table = self._table
        for symbol in symbols:
            error = self._refused.get(symbol)
            if error is not None:
                code = 105 if isinstance(error, SymbolUnknown) else 107
                raise ProtocolError(code, error.message)
            if table.knows_any and not table.knows(symbol):
                near = nearest(symbol, table.symbols)
                raise ProtocolError(105, SymbolUnknown(symbol, near).message)


def _any_of(topics: dict[str, Any], prefix: str) -> bool:
    return any(topic.startswith(prefix) for topic in topics)


__all__ = ["LIVE", "ProtocolError", "Session", "Terms"]
