"""What a budget says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from infra.sources.breaker import BreakerState


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget as of now.

    `waiting` are in the queue, `running` are upstream. `paused_until_s` is monotonic, None if
    not paused. Totals count requests since the start: sent, refused upstream (429), failed.
    """

    name: str
    rate_per_s: float
    waiting: int
    running: int
    paused_until_s: float | None
    breaker: BreakerState
    limited_total: int
    failed_total: int
    sent_total: int
