"""Holds prices against rules, and knows what was given lately."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from actors.alerts.rules import RULES, Found, Limits, Price, Reference, Rule, found_in
from actors.alerts.window import PriceWindow

Key = tuple[str, str]  # symbol, alert type

_SAME = 1e-3  # relative: a vendor's close is rounded, and adjusted ones are products


@dataclass(frozen=True, slots=True)
class LastFired:
    """When an alert of a symbol and type was last given (Unix seconds), in which session."""

    at_s: float
    session: str


@dataclass(frozen=True, slots=True)
class Due:
    """An alert that is to be given now, and the `price_update` that makes it so."""

    found: Found
    update: dict[str, Any]


class PriceAlerts:
    """Price alerts of every symbol. State: what was given, hard, the store's; all else soft.

    `seconds_of(iso)` reads a market time; `limits(symbol)` gives thresholds. Without a symbol's
    references only the rules that need none are held against it.
    """

    def __init__(
        self,
        limits: Limits,
        surge_pct: float,
        surge_window_s: float,
        seconds_of: Callable[[str], float],
    ) -> None:
        self._limits = limits
        self._surge_pct = surge_pct
        self._surge_window_s = surge_window_s
        self._seconds_of = seconds_of
        self._references: dict[str, Reference] = {}
        self._windows: dict[str, PriceWindow] = {}
        self._last_fired: dict[Key, LastFired] = {}

    def hold(self, symbol: str, reference: Reference) -> None:
        """Take what a symbol's prices are held against from now on."""
        self._references[symbol] = reference

    def let_go(self, symbol: str) -> None:
        """Forget references and window: prices are on another scale, or of another run."""
        self._references.pop(symbol, None)
        self._windows.pop(symbol, None)

    def start_over(self) -> None:
        """Forget all: the source began a new run, whose times come again."""
        self._references.clear()
        self._windows.clear()
        self._last_fired.clear()

    def needs(self, update: dict[str, Any]) -> bool:
        """Return whether the references held are not those for the session of a price."""
        return not self._fits(self._references.get(update["symbol"]), update)

    def remember(self, given: Iterable[tuple[Key, LastFired]]) -> None:
        """Take what the store knows was given."""
        self._last_fired.update(given)

    def on_price(self, update: dict[str, Any], now_s: float) -> list[Due]:
        """Return the alerts that a `price_update` gives now; each is given until `undo`."""
        symbol, value = update["symbol"], update["current_price"]
        if update["stale"] or update["session_part"] != "regular":
            return []
        window = self._windows.get(symbol)
        if window is None:
            window = self._windows[symbol] = PriceWindow(self._surge_window_s)
        base = window.base(self._seconds_of(update["timestamp"]), value)
        price = Price(symbol, value, update["previous_close"], base)
        reference = self._references.get(symbol)
        if reference is None or not self._fits(reference, update):
            reference = _UNKNOWN
        due = []
        for found in found_in(price, reference, self._limits(symbol), self._surge_pct):
            key = (symbol, found.alert_type)
            if self._may(key, RULES[found.alert_type], update["session"], now_s):
                self._last_fired[key] = LastFired(now_s, update["session"])
                due.append(Due(found, update))
        return due

    def undo(self, due: Due) -> None:
        """Forget that an alert was given: it was not."""
        self._last_fired.pop((due.update["symbol"], due.found.alert_type), None)

    def _fits(self, reference: Reference | None, update: dict[str, Any]) -> bool:
        """Return whether references are of the session just before a price's.

        Their close is then the one that the price is told against: a session's first price comes
        before the references of that session do, and on another scale after a split.
        """
        if reference is None or (reference.session or "") >= update["session"]:
            return False
        own, told = reference.previous_close, update["previous_close"]
        return own is None or told is None or abs(own - told) <= _SAME * abs(told)

    def _may(self, key: Key, rule: Rule, session: str, now_s: float) -> bool:
        given = self._last_fired.get(key)
        if given is None:
            return True
        if rule.once_a_session and given.session == session:
            return False
        return now_s - given.at_s >= rule.cool_down_s


_UNKNOWN = Reference(None, None, None, None, None, None)
