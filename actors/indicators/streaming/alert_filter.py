"""Which signals people are told of: a chain of rules, each of which may say no."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from actors.indicators.tables import BULLISH

_HOUR_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Rules:
    """Thresholds of the chain.

    `quality` 0 to 80, `success` 0 to 1, both only where `samples` outcomes are known; `strength`
    as signals have it; `volume` of the bar under way; `quiet_s` between two of one kind;
    `an_hour` for each symbol; `trend` a move of so much over five bars is one.
    """

    types: frozenset[str] = frozenset(
        {
            "MA200_breakout_up", "MA200_breakout_down", "golden_cross", "dead_cross",
            "RSI_oversold", "RSI_overbought",
        }
    )  # fmt: skip
    quality: float = 70.0
    success: float = 0.6
    samples: int = 5
    strength: float = 0.5
    volume: float = 10_000.0
    quiet_s: float = _HOUR_S
    an_hour: int = 3
    trend: float = 0.05


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """What became of former signals of a type after a day; `success` 0 to 1."""

    samples: int
    success: float
    quality: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A signal that may become an alert; `move` is the change over the last five bars."""

    symbol: str
    interval: str
    type: str
    strength: float
    volume: float
    move: float


def quality_score(
    success: float, mean_return: float, worst_return: float, profit_factor: float, samples: int
) -> float:
    """Return 0 to 80: success (a share) up to 20, return (percent) 20, drawdown 15, the factor of
    gains over losses 15, samples 10."""
    return (
        min(20.0, 100 * success)
        + max(0.0, min(20.0, 2 * mean_return))
        + max(0.0, min(15.0, 15 + 0.75 * worst_return))
        + min(15.0, 7.5 * profit_factor)
        + min(10.0, 0.5 * samples)
    )


class AlertFilter:
    """The chain. State: the alerts of the last hour, soft; `now_s` never goes back.

    `records`: by type; one that is not there passes.
    """

    def __init__(self, rules: Rules | None = None) -> None:
        self.records: Mapping[str, TrackRecord] = {}
        self._rules = rules or Rules()
        self._told_s: dict[tuple[str, str, str], float] = {}
        self._of_symbol: dict[str, deque[float]] = {}

    def refusal(self, signal: Candidate, now_s: float) -> str | None:
        """Return the first rule that says no, None for an alert; `tell` follows that."""
        rules, record = self._rules, self.records.get(signal.type)
        is_known = record is not None and record.samples >= rules.samples
        if signal.type not in rules.types:
            return "type"
        if record is not None and is_known and record.quality < rules.quality:
            return "quality"
        if record is not None and is_known and record.success < rules.success:
            return "success"
        if signal.strength < rules.strength:
            return "strength"
        if signal.volume < rules.volume:
            return "volume"
        key = signal.symbol, signal.interval, signal.type
        if now_s - self._told_s.get(key, float("-inf")) < rules.quiet_s:
            return "duplicate"
        if self._is_against(signal):
            return "market"
        return "too many" if self._count(signal.symbol, now_s) >= rules.an_hour else None

    def tell(self, signal: Candidate, now_s: float) -> None:
        """Remember that an alert was told."""
        self._forget(now_s)
        key = signal.symbol, signal.interval, signal.type
        self._told_s.pop(key, None)  # in the order of telling
        self._told_s[key] = now_s
        self._of_symbol.setdefault(signal.symbol, deque()).append(now_s)

    def _is_against(self, signal: Candidate) -> bool:
        """Return whether a signal that follows trends is against one; RSI's turn them."""
        if signal.type.startswith("RSI"):
            return False
        against = -signal.move if signal.type in BULLISH else signal.move
        return against > self._rules.trend

    def _count(self, symbol: str, now_s: float) -> int:
        told = self._of_symbol.get(symbol, deque())
        return sum(1 for at_s in told if now_s - at_s < _HOUR_S)

    def _forget(self, now_s: float) -> None:
        longest_s = max(_HOUR_S, self._rules.quiet_s)
        while self._told_s and now_s - next(iter(self._told_s.values())) >= longest_s:
            del self._told_s[next(iter(self._told_s))]
        for symbol, told in list(self._of_symbol.items()):
            while told and now_s - told[0] >= _HOUR_S:
                told.popleft()
            if not told:
                del self._of_symbol[symbol]
