"""What came of sending something once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sent:
    """The receiver took it."""

    status: int


@dataclass(frozen=True, slots=True)
class TryAgain:
    """It may go well later; `after_s` where the receiver said when."""

    reason: str
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The same again would be refused again."""

    reason: str


Outcome = Sent | TryAgain | Refused
