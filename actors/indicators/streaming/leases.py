"""Which live indicators somebody wants, and until when."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from actors.indicators.expressions import Call
from actors.indicators.functions import function_named
from actors.indicators.language import parse_calls
from infra.errors import ParameterInvalid, RangeInvalid
from infra.session_bars import MINUTES

LIVE_INTERVALS = (*MINUTES, "1d")
_WHERE = ("query", "indicators")


class Subject(NamedTuple):
    """A symbol at an interval."""

    symbol: str
    interval: str


STANDARD = parse_calls("rsi,macd,sma(20),sma(50),sma(200),bollinger")
RSI, MACD, SMA20, SMA50, SMA200, BANDS = STANDARD


def live_sets(indicators: str, interval: str) -> tuple[Call, ...]:
    """Return the standard sets and those of a list such as `ema(9),atr`.

    Raises ParameterInvalid for what is not there or not live, RangeInvalid for a session's
    indicator on bars of a day, and as the parser does.
    """
    sets = dict.fromkeys(STANDARD)
    for call in parse_calls(indicators) if indicators.strip() else ():
        live = function_named(call.name).live
        if live is None:
            raise ParameterInvalid(_WHERE, call.name, ["those that are live: /catalog"])
        if live.intraday_only and interval == "1d":
            raise RangeInvalid(_WHERE, f"{live.name} needs an interval under a day")
        sets[call] = None
    return tuple(sets)


class Leases:
    """Leases of live sets. State: soft; who still wants something says so again and again.

    `limit`: different sets, counted for each interval by itself, at most.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._until_s: dict[Subject, dict[Call, float]] = {}

    def want(self, subject: Subject, sets: Iterable[Call], until_s: float) -> None:
        """Want sets of a subject until then, or longer where that was said before.

        Raises RangeInvalid where that would be too many sets in all; nothing changes then.
        """
        keys = tuple(sets)
        live = {(s.interval, key) for s, held in self._until_s.items() for key in held}
        total = len(live.union((subject.interval, key) for key in keys))
        if total > self._limit:
            told = f"{self._limit} sets are live at most, this would make {total}"
            raise RangeInvalid(_WHERE, f"{told}; see FINSTAGE_LIVE_SETS", self._limit)
        held = self._until_s.setdefault(subject, {})
        for key in keys:
            held[key] = max(held.get(key, 0.0), until_s)

    def end(self, symbol: str) -> None:
        """Let every lease on a symbol be over."""
        for subject, held in self._until_s.items():
            if subject.symbol == symbol:
                self._until_s[subject] = dict.fromkeys(held, float("-inf"))

    def drop_over(self, now_s: float) -> list[Subject]:
        """Forget what nobody wants any more; return the subjects of which nothing is left."""
        gone = []
        for subject, held in list(self._until_s.items()):
            for key in [key for key, until_s in held.items() if until_s <= now_s]:
                del held[key]
            if not held:
                del self._until_s[subject]
                gone.append(subject)
        return gone

    def sets(self, subject: Subject) -> tuple[Call, ...]:
        """Return what is wanted of a subject."""
        return tuple(self._until_s.get(subject, ()))

    def sets_of(self, interval: str) -> set[Call]:
        """Return what is wanted of any symbol at an interval."""
        found = (held for s, held in self._until_s.items() if s.interval == interval)
        return {key for held in found for key in held}
