"""What a price is worth an alert for, whatever was given before. No state, no Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from infra.universe import Thresholds

HIGH_SURGE_PCT = 10.0


@dataclass(frozen=True, slots=True)
class Reference:
    """What a symbol's prices are held against: adjusted, of closed sessions; None where unknown.

    `session` (ISO date) is the last one that counted, `previous_close` its close: it holds for
    the session after that.
    """

    session: str | None
    previous_close: float | None
    previous_high: float | None
    previous_low: float | None
    all_time_high: float | None
    all_time_low: float | None


@dataclass(frozen=True, slots=True)
class Price:
    """A regular price, as a `price_update` says it; `window_base`: the price a window ago."""

    symbol: str
    price: float
    previous_close: float | None
    window_base: float | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A rule that a price fulfils. Percents are of the base; `threshold` is never negative."""

    alert_type: str
    base_type: str
    base: float
    threshold: float
    percent: float
    severity: str
    told: str  # with places for base and percent

    def message(self, symbol: str, price: float) -> str:
        """Return a sentence for people."""
        said = self.told.format(base=f"{self.base:,.2f}", percent=f"{self.percent:+.2f}")
        return f"{symbol} at {price:,.2f}: {said}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of alert: its cool-down in seconds, and whether it comes once a session at most."""

    alert_type: str
    base_type: str
    cool_down_s: float
    once_a_session: bool = False


Limits = Callable[[str], Thresholds]

_DAY_S, _SIX_HOURS_S, _HOUR_S = 86_400.0, 21_600.0, 3_600.0
RULES = {
    rule.alert_type: rule
    for rule in (
        Rule("price_rise", "prev_close", _DAY_S),
        Rule("price_drop", "prev_close", _DAY_S),
        Rule("surge", "window", _HOUR_S),
        Rule("plunge", "window", _HOUR_S),
        Rule("new_high", "all_time_high", _SIX_HOURS_S, once_a_session=True),
        Rule("new_low", "all_time_low", _SIX_HOURS_S, once_a_session=True),
        Rule("drop_from_high", "all_time_high", _SIX_HOURS_S),
        Rule("break_prev_high", "prev_high", _DAY_S),
        Rule("break_prev_low", "prev_low", _DAY_S),
    )
}


def found_in(
    price: Price, reference: Reference, limits: Thresholds, surge_pct: float
) -> Iterator[Found]:
    """Yield every rule that a price fulfils."""
    if price.previous_close:
        yield from _against_close(price, price.previous_close, limits)
    if price.window_base:
        yield from _against_window(price, price.window_base, surge_pct)
    high, low = reference.all_time_high, reference.all_time_low
    if high and price.price > high:
        yield _found(
            "new_high", price, high, 0.0, "info", "the highest price of all, above {base}"
        )
    if low and price.price < low:
        yield _found("new_low", price, low, 0.0, "info", "the lowest price of all, below {base}")
    if high and _percent(price.price, high) <= limits.drop_from_high_pct:
        told = "{percent} % from its all-time high of {base}"
        yield _found("drop_from_high", price, high, limits.drop_from_high_pct, "warning", told)
    high, low = reference.previous_high, reference.previous_low
    if high and price.price > high:
        told = "above the previous session's high of {base}"
        yield _found("break_prev_high", price, high, 0.0, "info", told)
    if low and price.price < low:
        told = "below the previous session's low of {base}"
        yield _found("break_prev_low", price, low, 0.0, "info", told)


def _against_close(price: Price, close: float, limits: Thresholds) -> Iterator[Found]:
    change = _percent(price.price, close)
    told = "{percent} % from the previous close of {base}"
    if change >= limits.price_rise_pct:
        yield _found("price_rise", price, close, limits.price_rise_pct, "info", told)
    if change <= limits.price_drop_pct:
        yield _found("price_drop", price, close, limits.price_drop_pct, "warning", told)


def _against_window(price: Price, base: float, surge_pct: float) -> Iterator[Found]:
    change = _percent(price.price, base)
    if abs(change) >= surge_pct:
        kind = "surge" if change > 0 else "plunge"
        severity = "high" if abs(change) >= HIGH_SURGE_PCT else "medium"
        told = "{percent} % within minutes, from {base}"
        yield _found(kind, price, base, surge_pct, severity, told)


def _found(
    kind: str, price: Price, base: float, threshold: float, severity: str, told: str
) -> Found:
    percent = _percent(price.price, base)
    return Found(kind, RULES[kind].base_type, base, abs(threshold), percent, severity, told)


def _percent(price: float, base: float) -> float:
    return (price - base) / base * 100


def reference_of(answer: dict[str, Any]) -> Reference:
    """Return the references that the indicators gave."""
    return Reference(
        session=answer["previous_session"],
        previous_close=answer["previous_close"],
        previous_high=answer["previous_high"],
        previous_low=answer["previous_low"],
        all_time_high=answer["all_time_high"],
        all_time_low=answer["all_time_low"],
    )
