"""Rules that users made: when their conditions become true."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from actors.indicators.client import LiveCondition, LiveWant
from infra.db.alert_rules import StoredRule

ONCE, AGAIN = "once", "again"
_QUOTE = {
    "close": "current_price", "open": "open", "high": "high", "low": "low", "volume": "volume",
    "change": "change_amount", "change_pct": "change_percent", "previous_close": "previous_close",
}  # fmt: skip

Values = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class UserRule:
    """A rule and its condition. It fires for each of its symbols by itself.

    Having fired, it is armed again only when its condition does not hold though every comparison
    in it is easier by `hysteresis_pct` percent. `updated_at` tells what it is now from what it
    was before it was changed.
    """

    stored: StoredRule
    condition: LiveCondition


@dataclass(frozen=True, slots=True)
class Fired:
    """A rule whose condition became true, and the price that it was told with."""

    rule: UserRule
    symbol: str
    update: dict[str, Any]
    values: Values


@dataclass(slots=True)
class _Watch:
    """One rule and symbol."""

    rule: UserRule
    is_armed: bool = True
    fired_s: float = float("-inf")
    before: Values = field(default_factory=dict)


class UserRules:
    """All enabled rules, and the values of their symbols. State: soft but for what `arm` is told.

    Rules that look at quotes only are asked on every price; those with indicators when live
    values of their interval come, which follow each price. At most `room` fire then; the others
    stay armed and are asked again with the next.
    """

    def __init__(self) -> None:
        self._rules: dict[str, UserRule] = {}
        self._watches: dict[str, dict[str, _Watch]] = {}  # by symbol and rule
        self._quotes: dict[str, tuple[dict[str, Any], Values]] = {}
        self.rearmed: set[tuple[str, str]] = set()  # rule and symbol, for the store to know

    def __len__(self) -> int:
        return len(self._rules)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return the symbols that some rule looks at."""
        return tuple(self._watches)

    @property
    def wants(self) -> list[LiveWant]:
        """Return the live indicators that rules look at."""
        return [
            LiveWant(symbol, rule.stored.interval, rule.condition.indicators)
            for rule in self._rules.values()
            if rule.condition.indicators
            for symbol in rule.stored.symbols
        ]

    def put(self, rule: UserRule) -> None:
        """Add a rule, or take it in the place of what it was: then it is armed."""
        self.remove(rule.stored.id)
        self._rules[rule.stored.id] = rule
        for symbol in rule.stored.symbols:
            self._watches.setdefault(symbol, {})[rule.stored.id] = _Watch(rule)

    def remove(self, rule_id: str) -> None:
        """Forget a rule; one that is not there is no error."""
        rule = self._rules.pop(rule_id, None)
        for symbol in rule.stored.symbols if rule else ():
            self._watches[symbol].pop(rule_id, None)
            if not self._watches[symbol]:
                del self._watches[symbol]

    def remember(self, rule_id: str, symbol: str, fired_s: float, is_armed: bool) -> None:
        """Take what the store knows of a rule and a symbol; changed since, it is armed."""
        watch = self._watches.get(symbol, {}).get(rule_id)
        if watch is not None:
            watch.fired_s = fired_s
            watch.is_armed = is_armed or fired_s < watch.rule.stored.updated_at.timestamp()

    def is_armed(self, rule_id: str, symbol: str) -> bool:
        """Return whether a rule may fire for a symbol; False if there is none."""
        watch = self._watches.get(symbol, {}).get(rule_id)
        return watch is not None and watch.is_armed

    def on_given(self, rule: UserRule) -> None:
        """Take that the store has an alert of a rule: if it fires once, it is over."""
        if rule.stored.repeat == ONCE and self._is_followed(rule):
            self.remove(rule.stored.id)

    def on_refused(self, rule: UserRule, symbol: str, fired_s: float) -> None:
        """Take that a rule did not fire, as it fired at `fired_s`: it waits for its cool-down."""
        if self._is_followed(rule):
            self.remember(rule.stored.id, symbol, fired_s, is_armed=True)

    def _is_followed(self, rule: UserRule) -> bool:
        """Return whether a rule is there as it is, and was not changed."""
        now = self._rules.get(rule.stored.id)
        return now is not None and now.stored.updated_at == rule.stored.updated_at

    def start_over(self) -> None:
        """Arm every rule, without a cool-down: the source began a new run."""
        self._quotes.clear()
        self.rearmed.clear()
        for rule in list(self._rules.values()):
            self.put(rule)

    def on_price(
        self, update: dict[str, Any], now_s: float, room: int = sys.maxsize
    ) -> list[Fired]:
        """Ask the rules that look at quotes only."""
        symbol = update["symbol"]
        watches = self._watches.get(symbol)
        if watches is None or update["stale"] or update["session_part"] != "regular":
            return []
        values: Values = {name: update.get(key) for name, key in _QUOTE.items()}
        self._quotes[symbol] = update, values
        asked = [w for w in watches.values() if not w.rule.condition.indicators]
        return self._asked(asked, symbol, values, now_s, room)

    def on_live(
        self, message: dict[str, Any], now_s: float, room: int = sys.maxsize
    ) -> list[Fired]:
        """Ask the rules that look at indicators of an interval, of which values came."""
        symbol = message["symbol"]
        watches = self._watches.get(symbol)
        if watches is None or symbol not in self._quotes:
            return []
        values = dict(self._quotes[symbol][1])
        for call, outputs in message["values"].items():
            values |= {f"{call}.{name}": value for name, value in outputs.items()}
        asked = [
            w
            for w in watches.values()
            if w.rule.condition.indicators and w.rule.stored.interval == message["interval"]
        ]
        return self._asked(asked, symbol, values, now_s, room)

    def _asked(
        self, watches: Iterable[_Watch], symbol: str, values: Values, now_s: float, room: int
    ) -> list[Fired]:
        fired: list[Fired] = []
        for watch in watches:
            if self._fires(watch, symbol, values, now_s):
                if len(fired) >= room:
                    continue  # as if not asked, crossings too: it fires when there is room
                watch.is_armed, watch.fired_s = False, now_s
                self.rearmed.discard((watch.rule.stored.id, symbol))
                fired.append(Fired(watch.rule, symbol, self._quotes[symbol][0], values))
            watch.before = values
        return fired

    def _fires(self, watch: _Watch, symbol: str, values: Values, now_s: float) -> bool:
        rule = watch.rule
        if not watch.is_armed:
            slack_pct = rule.stored.hysteresis_pct
            if not rule.condition.holds(values, watch.before, slack_pct):
                watch.is_armed = True
                self.rearmed.add((rule.stored.id, symbol))
            return False
        if now_s - watch.fired_s < rule.stored.cooldown_s:
            return False
        return rule.condition.holds(values, watch.before)
