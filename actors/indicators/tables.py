"""What is computed of symbols, as it travels: lines, matches, signals, moods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from infra.bars import Floats, Ints

BULLISH = frozenset(
    {
        "MA20_breakout_up", "MA50_breakout_up", "MA200_breakout_up", "RSI_oversold", "RSI_bullish",
        "BB_touch_lower", "BB_break_lower", "golden_cross",
    }
)  # fmt: skip
SIGNAL_TYPES = (
    "MA20_breakout_up", "MA20_breakout_down", "MA50_breakout_up", "MA50_breakout_down",
    "MA200_breakout_up", "MA200_breakout_down", "RSI_overbought", "RSI_oversold", "RSI_bullish",
    "RSI_bearish", "BB_touch_upper", "BB_touch_lower", "BB_break_upper", "BB_break_lower",
    "golden_cross", "dead_cross",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class IndicatorTable:
    """The last rows of some indicators, oldest first.

    `opened_at_ns` (n,): int64 Unix nanoseconds, UTC. `lines`: by indicator (`sma(20)`) and output,
    float64 (n,), NaN where there is no value. `origin`: what the API says of the bars.
    """

    origin: dict[str, object]
    opened_at_ns: Ints
    lines: dict[str, dict[str, Floats]]
    stale_since_s: float | None

    def latest(self) -> dict[str, Any]:
        """Return the values of the last bar as the API gives them, None where there is none."""
        last = {
            text: {name: _finite(line) for name, line in outputs.items()}
            for text, outputs in self.lines.items()
        }
        return {**self.origin, "method": "standard", "indicators": last}


def _finite(line: Floats) -> float | None:
    return float(line[-1]) if len(line) and np.isfinite(line[-1]) else None


class LiveWant(NamedTuple):
    """Live indicators that somebody wants: the standard ones, and a list such as `ema(9),atr`."""

    symbol: str
    interval: str = "1d"
    indicators: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """A symbol that fulfils a condition, or has a place in a ranking, with values by name."""

    symbol: str
    session: str
    values: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal at the close of a bar.

    `value`: the average, band or RSI that made it. `strength`: percent between price and average
    or band, points between RSI and 50, percent between the two averages of a cross.
    """

    type: str
    row: int
    opened_at_ns: int
    price: float
    value: float
    strength: float
    volume: int

    @property
    def direction(self) -> str:
        """Return bullish or bearish; a band broken or touched from below is bearish."""
        return "bullish" if self.type in BULLISH else "bearish"


@dataclass(frozen=True, slots=True)
class Sentiment:
    """What indicators of the last bar add up to.

    `score`: the sum of `components`, -2 to 2 each, volume -1 to 1. `ratio`: 0 to 1, where the
    score lies between the least and the most that the components allow.
    """

    score: int
    ratio: float
    label: str
    components: dict[str, int]
