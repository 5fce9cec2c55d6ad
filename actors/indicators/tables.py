"""What is computed of one symbol: the lines of several indicators beside their bars."""

from __future__ import annotations

from dataclasses import dataclass

from infra.bars import Floats, Ints


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


@dataclass(frozen=True, slots=True)
class Match:
    """A symbol that fulfils a condition, or has a place in a ranking, with values by name."""

    symbol: str
    session: str
    values: dict[str, float | None]
