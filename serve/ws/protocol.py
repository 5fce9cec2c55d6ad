"""What a client may say on `/ws/realtime`, and what it is answered."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from actors.indicators.client import LiveWant
from infra.errors import (
    ExpressionInvalid,
    FinstageError,
    IntervalUnsupported,
    ParameterInvalid,
    RangeInvalid,
    SymbolUnknown,
)
from infra.messages import BARS, EXTENDED, PRICES, TECHNICAL
from infra.symbols import nearest, normalise
from serve.ws.sockets import Outbox, SocketTable

_ACTIONS = ("subscribe", "unsubscribe", "heartbeat")
_TYPES = ("prices", "bars", "technical_analysis", "alerts", "all")
_LIVE = "technical_analysis"
_PREFIXES = {"prices": PRICES, "bars": BARS, _LIVE: TECHNICAL}
_NOT_COMPUTED = (ExpressionInvalid, IntervalUnsupported, ParameterInvalid, RangeInvalid)


class ProtocolError(Exception):
    """Raised when a client's message cannot be carried out; the socket stays open."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class Session:
    """One client's conversation. State: its subscriptions, gone with the socket."""

    def __init__(
        self, client_id: str, table: SocketTable, outbox: Outbox, max_symbols: int, source: str
    ) -> None:
        self._client_id = client_id
        self._table = table
        self._outbox = outbox
        self._max_symbols = max_symbols
        self._source = source
        self._refused: dict[str, FinstageError] = {}
        self._refused_live: dict[LiveWant, FinstageError] = {}

    def new_symbols(self, text: str | bytes) -> list[str]:
        """Return the symbols that a message subscribes to and no price was ever told of."""
        with contextlib.suppress(ProtocolError):
            request = _parsed(text)
            if request.get("action") == "subscribe":
                known = set(self._table.symbols)
                return [s for s in _symbols(request)[: self._max_symbols] if s not in known]
        return []  # what is wrong with it is said in the reply

    def live_wants(self, text: str | bytes) -> list[LiveWant]:
        """Return the live indicators that a message subscribes to."""
        with contextlib.suppress(ProtocolError):
            request = _parsed(text)
            if request.get("action") == "subscribe" and request.get("type") == _LIVE:
                return _live_wants(request, _symbols(request)[: self._max_symbols])
        return []

    def meet_live(self, refused: dict[LiveWant, FinstageError]) -> None:
        """Take the indicators' word for what the next message subscribes to."""
        self._refused_live = refused

    def meet(self, symbols: Sequence[str], refused: dict[str, FinstageError]) -> None:
        """Take the feed's word for symbols: those not refused can be subscribed to."""
        self._refused = refused
        self._table.meet(s for s in symbols if s not in refused)

    def welcome(self) -> bytes:
        """Return the first message of a connection."""
        return orjson.dumps(
            {
                "type": "system_status",
                "message": f"connected to Finstage, source {self._source}",
                "client_id": self._client_id,
                "source": self._source,
                "available_actions": _ACTIONS,
                "subscription_types": tuple(_PREFIXES),
                "epoch": self._table.position.epoch,
                "offset": self._table.position.offset,
            }
        )

    def reply(self, text: str | bytes, server_time_s: float) -> bytes:
        """Carry out one message and return the answer; an error is an answer too."""
        request: dict[str, Any] = {}
        try:
            request = _parsed(text)
            answer = self._handler(request)(request, server_time_s)
        except ProtocolError as error:
            answer = {"type": "error", "code": error.code, "message": error.message}
        if isinstance(request.get("id"), str | int):
            answer["id"] = request["id"]
        return orjson.dumps(answer)

    def _handler(
        self, request: dict[str, Any]
    ) -> Callable[[dict[str, Any], float], dict[str, Any]]:
        action = request.get("action")
        handlers = {
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "heartbeat": self._heartbeat,
        }
        if not isinstance(action, str) or action not in handlers:
            raise ProtocolError(101, f"action must be one of {', '.join(_ACTIONS)}")
        return handlers[action]

    def _subscribe(self, request: dict[str, Any], _: float) -> dict[str, Any]:
        kind = _checked_type(request.get("type"))
        symbols = self._known(_symbols(request))
        if not symbols:
            raise ProtocolError(104, "symbols must name at least one")
        topics = [_PREFIXES[kind] + symbol for symbol in symbols]
        live: dict[str, LiveWant] = {}
        if kind == _LIVE:
            live = self._live(_live_wants(request, symbols))
            topics = list(live)
        if _wants_extended(request, kind):
            topics += [EXTENDED + symbol for symbol in symbols]
        total = len(self._outbox.topics.union(topics))
        if total > self._max_symbols:
            raise ProtocolError(
                106, f"a socket takes {self._max_symbols} symbols, this would make {total}"
            )
        self._outbox.live |= live
        snapshot = self._table.subscribe(self._outbox, topics)
        return self._result("subscribed", kind, symbols) | {"snapshot": snapshot}

    def _unsubscribe(self, request: dict[str, Any], _: float) -> dict[str, Any]:
        given = request.get("type")
        kinds = tuple(_PREFIXES) if given is None else (_checked_type(given),)
        prefixes = tuple(_PREFIXES[kind] for kind in kinds)
        if PRICES in prefixes:
            prefixes += (EXTENDED,)
        symbols = _symbols(request)
        held = sorted(topic for topic in self._outbox.topics if topic.startswith(prefixes))
        named = [prefix + symbol for prefix in prefixes for symbol in symbols]
        subjects = tuple(f"{TECHNICAL}{symbol}:" for symbol in symbols)
        named += [topic for topic in held if subjects and topic.startswith(subjects)]
        self._table.unsubscribe(self._outbox, named or held)
        return self._result("unsubscribed", kinds[0], symbols)

    def _heartbeat(self, _: dict[str, Any], server_time_s: float) -> dict[str, Any]:
        return {"type": "heartbeat", "message": "pong", "server_time": server_time_s}

    def _result(self, action: str, kind: str, symbols: list[str]) -> dict[str, Any]:
        prefix = _PREFIXES[kind]
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

    def _live(self, wants: Sequence[LiveWant]) -> dict[str, LiveWant]:
        """Return what is wanted by topic; a refusal is the answer."""
        refused = next((self._refused_live[w] for w in wants if w in self._refused_live), None)
        if refused is not None:
            is_wrong = isinstance(refused, _NOT_COMPUTED)
            code = 109 if is_wrong else 105 if isinstance(refused, SymbolUnknown) else 107
            raise ProtocolError(code, refused.message)
        return {f"{TECHNICAL}{w.symbol}:{w.interval}": w for w in wants}

    def _known(self, symbols: list[str]) -> list[str]:
        known = set(self._table.symbols)
        for symbol in symbols:
            error = self._refused.get(symbol)
            if error is not None:
                code = 105 if isinstance(error, SymbolUnknown) else 107
                raise ProtocolError(code, error.message)
            if known and symbol not in known:  # before the first price nothing can be said
                raise ProtocolError(105, SymbolUnknown(symbol, nearest(symbol, known)).message)
        return symbols


def _parsed(text: str | bytes) -> dict[str, Any]:
    try:
        request = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise ProtocolError(100, "a message must be a JSON object") from None
    if not isinstance(request, dict):
        raise ProtocolError(100, "a message must be a JSON object")
    return request


def _checked_type(kind: object) -> str:
    if isinstance(kind, str) and kind in _PREFIXES:
        return kind
    allowed = " or ".join(_PREFIXES)
    if kind in _TYPES:
        raise ProtocolError(103, f"type {kind!r} is not streamed in this version; use {allowed}")
    raise ProtocolError(102, f"type must be {allowed}")


def _wants_extended(request: dict[str, Any], kind: str) -> bool:
    extended = request.get("extended", False)
    if not isinstance(extended, bool):
        raise ProtocolError(108, "extended must be true or false")
    if extended and kind != "prices":
        raise ProtocolError(108, f"extended goes with prices: {kind} are of regular hours")
    return extended


def _live_wants(request: dict[str, Any], symbols: Sequence[str]) -> list[LiveWant]:
    interval, indicators = request.get("interval", "1d"), request.get("indicators", "")
    if not isinstance(interval, str) or not isinstance(indicators, str):
        raise ProtocolError(109, 'interval and indicators must be text: "1d", "ema(9),atr"')
    return [LiveWant(symbol, interval, indicators) for symbol in symbols]


def _symbols(request: dict[str, Any]) -> list[str]:
    symbols = request.get("symbols", [])
    if not isinstance(symbols, list) or not all(isinstance(s, str) for s in symbols):
        raise ProtocolError(104, "symbols must be a list of strings")
    try:
        return list(dict.fromkeys(normalise(symbol) for symbol in symbols))
    except SymbolUnknown as error:
        raise ProtocolError(105, error.message) from None
