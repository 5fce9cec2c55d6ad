"""Faults of a stream by a script: gaps, doubles, wrong order, bursts, halts, splits, silence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from infra.bars import Quote
from infra.sources.base import Event, Gap, StreamLost, Tick

_TIMED = ("gap", "mute", "duplicate", "out_of_order", "burst", "halt")
KINDS = (*_TIMED, "split")
_FORM = "kind:symbols@start+seconds, with xfactor after a burst, and split:symbols@startxratio"


@dataclass(frozen=True, slots=True)
class Fault:
    """One line of a script: `kind` from `start_s` (since the source's start) for `duration_s`.

    `symbols` is empty where all are meant. `factor`: a burst's ticks for one, a split's new
    shares for one old, else 1.
    """

    kind: str
    symbols: frozenset[str]
    start_s: float
    duration_s: float = 0.0
    factor: float = 1.0

    @property
    def end_s(self) -> float:
        """Return when it is over; that instant is no part of it."""
        return self.start_s + self.duration_s

    def hits(self, symbol: str) -> bool:
        """Return whether a symbol is meant."""
        return not self.symbols or symbol in self.symbols

    def lasts(self, at_s: float) -> bool:
        """Return whether it is under way."""
        return self.start_s <= at_s < self.end_s


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Return the faults of a script, in its order; nothing for an empty one.

    Faults are separated by `;`, symbols by `,`, and `*` means all. Kinds, from start to start +
    seconds: `gap` (ticks are lost; if all symbols' are, StreamLost at its start; Gap at its end),
    `mute` (ticks are lost, and nothing is said until the Gap at its end), `duplicate` (each tick
    comes twice), `out_of_order` (each two ticks of a symbol come the wrong way round), `burst`
    (xN: N ticks for one), `halt` (no trades; the last quote again, as closed). At an instant:
    `split` (xR: R new shares for one old). Raises ValueError, which names the fault.

    >>> parse_faults("burst:SIM0001@120+5x10")[0].factor
    10.0
    """
    return tuple(_parsed(part.strip()) for part in text.split(";") if part.strip())


def _parsed(text: str) -> Fault:
    kind, colon, rest = text.partition(":")
    names, at, when = rest.partition("@")
    if kind not in KINDS:
        raise ValueError(f"fault {text!r}: {kind!r} is none of {', '.join(KINDS)}")
    if not colon or not at:
        raise ValueError(f"fault {text!r} is not of the form {_FORM}")
    span, has_factor, factor = when.partition("x")
    start, has_duration, duration = span.partition("+")
    if bool(has_duration) != (kind in _TIMED):
        wanted = "+seconds" if kind in _TIMED else "no +seconds: it happens at an instant"
        raise ValueError(f"fault {text!r}: a {kind} takes {wanted}")
    if bool(has_factor) != (kind in ("burst", "split")):
        raise ValueError(f"fault {text!r}: only bursts and splits take, and need, xfactor")
    fault = Fault(
        kind,
        _symbols(names, text),
        _number(start, text),
        _number(duration, text) if has_duration else 0.0,
        _number(factor, text) if has_factor else 1.0,
    )
    _check(fault, text)
    return fault


def _check(fault: Fault, text: str) -> None:
    if fault.kind in _TIMED and fault.duration_s == 0:
        raise ValueError(f"fault {text!r} lasts no time")
    if fault.kind == "burst" and (fault.factor < 2 or fault.factor % 1):
        raise ValueError(f"fault {text!r}: a burst's factor is a whole number from 2 on")
    if fault.kind == "split" and fault.factor in (0.0, 1.0):
        raise ValueError(f"fault {text!r}: a split's ratio is above 0 and not 1")


def _symbols(text: str, fault: str) -> frozenset[str]:
    names = [name.strip() for name in text.split(",")]
    if names == ["*"]:
        return frozenset()
    if not all(names) or "*" in names:
        raise ValueError(f"fault {fault!r}: {text!r} is neither symbols nor a single *")
    return frozenset(names)


def _number(text: str, fault: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"fault {fault!r}: {text!r} is no number from 0 on")
    return number


class FaultScript:
    """Disturbs the ticks of one stream as the faults say (`split` apart, which is the market's).

    Several faults at once apply one after the other, in the order of the script. State: the last
    quotes told, ticks that are held back; soft, of one stream.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._faults = tuple(fault for fault in faults if fault.kind != "split")
        self._last: dict[str, Quote] = {}
        self._held: dict[Fault, dict[str, Tick]] = {}
        # What gaps and mutes under way swallow: symbols, and when they were last heard of (ns).
        self._silences: dict[Fault, dict[str, int]] = {}
        self._halted: set[tuple[Fault, str]] = set()

    def disturb(self, ticks: Sequence[Tick], at_s: float, now_ns: int) -> list[Event]:
        """Return what is told in place of the ticks of one instant, which may be nothing.

        `at_s` is the instant since the source's start, `now_ns` the same as Unix nanoseconds;
        instants come in order.
        """
        if not self._faults:
            return list(ticks)
        events: list[Event] = list(ticks)
        for fault in self._faults:
            if fault.lasts(at_s):
                events = self._apply(fault, events)
            elif at_s >= fault.end_s:
                events = self._ended(fault, events, now_ns)
        for event in events:
            if isinstance(event, Tick):
                self._last[event.quote.symbol] = event.quote
        return events

    def _apply(self, fault: Fault, events: list[Event]) -> list[Event]:
        told: list[Event] = []
        if fault.kind in ("gap", "mute") and fault not in self._silences:
            self._silences[fault] = {}
            if fault.kind == "gap" and not fault.symbols:
                told.append(StreamLost("a gap of the fault script"))
        for event in events:
            if isinstance(event, Tick) and fault.hits(event.quote.symbol):
                told += self._instead(fault, event)
            else:
                told.append(event)
        return told

    def _instead(self, fault: Fault, tick: Tick) -> list[Tick]:
        """Return what one tick becomes."""
        symbol = tick.quote.symbol
        last = self._last.get(symbol)
        if fault.kind == "duplicate":
            return [tick, tick]
        if fault.kind == "burst":
            return [tick] if last is None else _between(last, tick, int(fault.factor))
        if fault.kind == "out_of_order":
            return self._swapped(fault, tick)
        if fault.kind == "halt":
            return self._halt(fault, symbol)
        before_ns = tick.quote.traded_at_ns if last is None else last.traded_at_ns
        self._silences[fault].setdefault(symbol, before_ns)
        return []

    def _swapped(self, fault: Fault, tick: Tick) -> list[Tick]:
        held = self._held.setdefault(fault, {})
        earlier = held.pop(tick.quote.symbol, None)
        if earlier is None:
            held[tick.quote.symbol] = tick
            return []
        return [tick, earlier]

    def _halt(self, fault: Fault, symbol: str) -> list[Tick]:
        last = self._last.get(symbol)
        if last is None or (fault, symbol) in self._halted:
            return []
        self._halted.add((fault, symbol))
        return [Tick(replace(last, market_status="closed"))]

    def _ended(self, fault: Fault, events: list[Event], now_ns: int) -> list[Event]:
        """Return the events with what a fault still owes before them; it owes once."""
        held = self._held.pop(fault, {})
        missed = self._silences.pop(fault, {})
        owed: list[Event] = list(held.values())
        if missed:
            owed.append(Gap(tuple(sorted(missed)), min(missed.values()), now_ns))
        return owed + events


def _between(last: Quote, tick: Tick, count: int) -> list[Tick]:
    """Return `count` ticks of which the last is `tick`, the others on the way from `last`.

    They stay between the two prices and within the two times, and nothing is traded in them, so
    no bar becomes another. Over a change of session or scale there is no way: just the tick.
    """
    quote = tick.quote
    if last.data_version != quote.data_version:
        return [tick]
    apart, passed_ns = quote.price - last.price, quote.traded_at_ns - last.traded_at_ns
    ends = sorted((last.price, quote.price))
    ticks = []
    for step in range(1, count):
        price = min(max(round(last.price + apart * step / count, 2), ends[0]), ends[1])
        ticks.append(
            Tick(
                replace(
                    last,
                    price=price,
                    high=max(last.high, price),
                    low=min(last.low, price),
                    traded_at_ns=last.traded_at_ns + passed_ns * step // count,
                    market_status=quote.market_status,
                )
            )
        )
    return [*ticks, tick]
