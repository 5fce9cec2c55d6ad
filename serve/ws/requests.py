"""What a client's message asks for, checked."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import msgpack
import orjson

from actors.indicators.client import LiveWant
from infra.digits import MOST
from infra.errors import ParameterUnknown, SymbolUnknown
from infra.messages import ALERTS, BARS, EXTENDED, PERFORMANCE, TASKS, TECHNICAL, Position
from infra.symbols import normalise
from serve.edge.parameter_names import check_names
from serve.ws.frames import ENCODINGS, JSON, Format
from serve.ws.outbox import ALL, LATEST, MODES, Taking
from serve.ws.sockets import KINDS
from serve.ws.takers import CATEGORY, EVERYTHING

_COMMON = ("action", "id")
MEMBERS = {  # of a message, by its action
    "subscribe": (
        *_COMMON, "type", "symbols", "mode", "max_rate_hz", "fields", "encoding", "recover",
        "extended", "interval", "indicators",
    ),
    "unsubscribe": (*_COMMON, "type", "symbols"),
    "heartbeat": _COMMON,
    "get_status": _COMMON,
    "get_current_prices": (*_COMMON, "symbols"),
    "get_price_history": (*_COMMON, "symbol", "limit"),
}  # fmt: skip
_MOST_MEMBERS = 100  # are looked at: each costs some microseconds
LIVE, EVERY_KIND = "technical_analysis", "all"
PREFIXES = KINDS
TYPES = (*PREFIXES, EVERY_KIND)
_OF_NO_SYMBOL = ("tasks", "performance")
_WITHOUT_SYMBOLS = ("alerts", *_OF_NO_SYMBOL, EVERY_KIND)  # which mean everything then
_WHOLE = (
    BARS,
    ALERTS,
    TASKS,
    PERFORMANCE,
)  # of which a client wants each one, unless it says otherwise
_BAR_INTERVAL = "1m"
_DEFAULT_HISTORY, _MOST_HISTORY = 50, 100


class ProtocolError(Exception):
    """Raised when a client's message cannot be carried out; the socket stays open."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A subscription. `symbols` are normalised, or `*`, or `category:stock`.

    `mode` is None where the client named none. `after_alert`: the last alert that a client which
    comes back has.
    """

    kind: str
    symbols: tuple[str, ...]
    mode: str | None
    format: Format
    max_rate_hz: float
    is_extended: bool
    wants: tuple[LiveWant, ...]
    recover: Position | None
    after_alert: int | None

    @property
    def named(self) -> list[str]:
        """Return the symbols that are meant by name."""
        return [s for s in self.symbols if not is_pattern(s)]

    def topics(self) -> dict[str, Taking]:
        """Return what is subscribed to, and how each is taken."""
        kinds = list(PREFIXES) if self.kind == EVERY_KIND else [self.kind]
        if self.kind == EVERY_KIND and EVERYTHING not in self.symbols:
            kinds = [kind for kind in kinds if kind not in _OF_NO_SYMBOL]
        prefixes = [PREFIXES[kind] for kind in kinds]
        if self.is_extended:
            prefixes.append(EXTENDED)
        return {name: self._taking(prefix) for prefix in prefixes for name in self._names(prefix)}

    def live(self) -> dict[str, LiveWant]:
        """Return the live indicators that are wanted, by topic."""
        return {f"{TECHNICAL}{w.symbol}:{w.interval}": w for w in self.wants}

    def _names(self, prefix: str) -> list[str]:
        if prefix != TECHNICAL:
            return [prefix + symbol for symbol in self.symbols]
        return [*self.live(), *(TECHNICAL + s for s in self.symbols if is_pattern(s))]

    def _taking(self, prefix: str) -> Taking:
        mode = self.mode or (ALL if prefix in _WHOLE else LATEST)
        return Taking(mode, self.format, self.max_rate_hz)


def is_pattern(symbol: str) -> bool:
    """Return whether a name stands for several symbols."""
    return symbol == EVERYTHING or symbol.startswith(CATEGORY)


def parsed(text: str | bytes) -> dict[str, Any]:
    """Return a message as an object: JSON in a text frame, MessagePack in a binary one."""
    try:
        request = orjson.loads(text)
    except orjson.JSONDecodeError:
        request = _unpacked(text)
    if not isinstance(request, dict):
        raise ProtocolError(100, "a message must be a JSON object")
    return request


def _unpacked(text: str | bytes) -> object:
    if isinstance(text, str):
        return None
    try:
        unpacked: object = msgpack.unpackb(text)
    except (ValueError, msgpack.exceptions.ExtraData, msgpack.exceptions.UnpackException):
        return None
    return unpacked


def checked_action(request: dict[str, Any]) -> str:
    """Return the action of a message; raises ProtocolError, also for a misspelled member."""
    action = request.get("action")
    if not isinstance(action, str) or action not in MEMBERS:
        raise ProtocolError(101, f"action must be one of {', '.join(MEMBERS)}")
    try:
        names = itertools.islice(request, _MOST_MEMBERS)
        # Others may send members of their own: `uid` is no id, `active` no action.
        check_names(names, MEMBERS[action], shortest=5, similarity=0.75)
    except ParameterUnknown as error:
        raise ProtocolError(111, error.message) from None
    return action


def subscription(
    request: dict[str, Any], categories: Sequence[str], intervals: Sequence[str]
) -> Subscribe:
    """Return what a `subscribe` asks for; raises ProtocolError.

    `intervals`: those that the source has bars of.
    """
    kind = checked_type(request.get("type"))
    if kind == "bars":
        _check_bars(request.get("interval") or _BAR_INTERVAL, intervals)
    symbols = symbols_of(request, categories)
    if symbols and kind in _OF_NO_SYMBOL:
        raise ProtocolError(104, f"{kind} is of no symbol: leave symbols out")
    if not symbols and kind in _WITHOUT_SYMBOLS:
        symbols = [EVERYTHING]
    if not symbols:
        raise ProtocolError(104, "symbols must name at least one")
    wants = _live_wants(request, symbols) if kind in (LIVE, EVERY_KIND) else ()
    return Subscribe(
        kind=kind,
        symbols=tuple(symbols),
        mode=_mode(request),
        format=_format(request),
        max_rate_hz=_rate(request),
        is_extended=_checked_extended(request, kind),
        wants=wants,
        recover=_position(request),
        after_alert=_after_alert(request),
    )


def checked_type(kind: object) -> str:
    """Return a type that is streamed; raises ProtocolError for another."""
    if isinstance(kind, str) and kind in TYPES:
        return kind
    raise ProtocolError(102, f"type must be {' or '.join(TYPES)}")


def _check_bars(interval: object, intervals: Sequence[str]) -> None:
    if interval != _BAR_INTERVAL:
        given = repr(str(interval)[:40])
        raise ProtocolError(109, f"bars are streamed of {_BAR_INTERVAL} only, not of {given}")
    if _BAR_INTERVAL not in intervals:
        has = ", ".join(intervals)
        raise ProtocolError(109, f"bars are streamed of {_BAR_INTERVAL}; this source has {has}")


def symbols_of(request: dict[str, Any], categories: Sequence[str]) -> list[str]:
    """Return the symbols that a message names, each once."""
    symbols = request.get("symbols", [])
    if not isinstance(symbols, list) or not all(isinstance(s, str) for s in symbols):
        raise ProtocolError(104, "symbols must be a list of strings")
    return list(dict.fromkeys(_symbol(symbol, categories) for symbol in symbols))


def history_request(request: dict[str, Any]) -> tuple[str, int]:
    """Return the symbol and how many prices `get_price_history` asks for."""
    symbol, limit = request.get("symbol"), request.get("limit", _DEFAULT_HISTORY)
    if not isinstance(symbol, str) or not symbol:
        raise ProtocolError(104, "symbol must name one")
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= _MOST_HISTORY:
        raise ProtocolError(110, f"limit must be a whole number from 1 to {_MOST_HISTORY}")
    return _symbol(symbol, ()), limit


def _symbol(symbol: str, categories: Sequence[str]) -> str:
    if symbol == EVERYTHING:
        return symbol
    if symbol.lower().startswith(CATEGORY):
        if symbol.lower().removeprefix(CATEGORY) not in categories:
            known = ", ".join(categories)
            raise ProtocolError(105, f"{symbol!r} is no category; there are {known}")
        return symbol.lower()
    try:
        return normalise(symbol)
    except SymbolUnknown as error:
        raise ProtocolError(105, error.message) from None


def _checked_extended(request: dict[str, Any], kind: str) -> bool:
    extended = request.get("extended", False)
    if not isinstance(extended, bool):
        raise ProtocolError(108, "extended must be true or false")
    if extended and kind not in ("prices", EVERY_KIND):
        raise ProtocolError(108, f"extended goes with prices: {kind} are of regular hours")
    return extended


def _live_wants(request: dict[str, Any], symbols: Sequence[str]) -> tuple[LiveWant, ...]:
    interval, indicators = request.get("interval", "1d"), request.get("indicators", "")
    if not isinstance(interval, str) or not isinstance(indicators, str):
        raise ProtocolError(109, 'interval and indicators must be text: "1d", "ema(9),atr"')
    return tuple(LiveWant(s, interval, indicators) for s in symbols if not is_pattern(s))


def _mode(request: dict[str, Any]) -> str | None:
    mode = request.get("mode")
    if mode is not None and mode not in MODES:
        raise ProtocolError(110, f"mode must be {' or '.join(MODES)}")
    return None if mode is None else str(mode)


def _format(request: dict[str, Any]) -> Format:
    encoding, fields = request.get("encoding", JSON), request.get("fields")
    if encoding not in ENCODINGS:
        raise ProtocolError(110, f"encoding must be {' or '.join(ENCODINGS)}")
    if fields is None:
        return Format(encoding)
    if not isinstance(fields, list) or not all(isinstance(name, str) for name in fields):
        raise ProtocolError(110, "fields must be a list of names")
    return Format(encoding, frozenset(fields))


def _rate(request: dict[str, Any]) -> float:
    rate = request.get("max_rate_hz", 0)
    is_number = isinstance(rate, int | float) and not isinstance(rate, bool)
    if not is_number or not 0 <= rate <= 1_000:
        raise ProtocolError(110, "max_rate_hz must be a number from 0 (no limit) to 1000")
    return float(rate)


def _position(request: dict[str, Any]) -> Position | None:
    given = request.get("recover")
    if given is None:
        return None
    epoch = given.get("epoch") if isinstance(given, dict) else None
    offset = given.get("offset") if isinstance(given, dict) else None
    if not isinstance(epoch, str) or not _is_number(offset):
        raise ProtocolError(110, 'recover must be {"epoch": "…", "offset": 1234}')
    return Position(epoch, offset)


def _after_alert(request: dict[str, Any]) -> int | None:
    given = request.get("recover")
    number: int | None = given.get("alert_id") if isinstance(given, dict) else None
    if number is not None and not _is_number(number):
        raise ProtocolError(110, "alert_id must be the number of the last alert that came")
    return number


def _is_number(given: object) -> TypeGuard[int]:
    """Return whether a value may be an offset or an alert's number."""
    return isinstance(given, int) and not isinstance(given, bool) and 0 <= given <= MOST
