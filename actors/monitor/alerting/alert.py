"""An alert about the service, and what happens to it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

from infra.clock import utc

FLAPPING_RETURNS = 3


FLAPPING_CLEAR_S = 600.0


@dataclass(frozen=True, slots=True)
class ServiceAlert:
    """One trouble, from when its rule told of it until it is over; it comes back `repeats` times.

    Times are Unix seconds. `acknowledged` is of the present occurrence: a return takes it away.
    """

    id: str
    rule_id: str
    title: str
    message: str
    severity: str
    metric_name: str
    current_value: float
    threshold: float
    triggered_at_s: float
    resolved_at_s: float | None = None
    resolved_reason: str | None = None
    acknowledged: bool = False
    acknowledged_at_s: float | None = None
    repeats: int = 0
    is_flapping: bool = False

    @property
    def is_active(self) -> bool:
        """Whether it is not over."""
        return self.resolved_at_s is None


@dataclass(frozen=True, slots=True)
class _Telling:
    alert: ServiceAlert

    kind: ClassVar[str]

    @property
    def notice_id(self) -> str:
        """The same however often this is told, another for all else; 40 characters."""
        told = f"{self.alert.id} {self.kind} {self.alert.repeats}"
        return f"service-{hashlib.sha256(told.encode()).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class Triggered(_Telling):
    """An alert began, or came back and stays: then `repeats` is not 0."""

    kind: ClassVar[str] = "triggered"

    @property
    def text(self) -> str:
        """What is told, in sentences."""
        back = "It is back, and stays. " if self.alert.repeats else ""
        return f"{back}{self.alert.message}"


@dataclass(frozen=True, slots=True)
class Resolved(_Telling):
    """An alert is over; its `resolved_reason` says why."""

    kind: ClassVar[str] = "resolved"

    @property
    def text(self) -> str:
        """What is told, in sentences."""
        alert = self.alert
        since = utc(alert.triggered_at_s).strftime("%H:%M:%S")
        return f"Over, after it began at {since} UTC: {alert.resolved_reason}. {alert.message}"


@dataclass(frozen=True, slots=True)
class Flapping(_Telling):
    """An alert keeps coming back. It is active, and its end is told once it stays away."""

    kind: ClassVar[str] = "flapping"

    @property
    def text(self) -> str:
        """What is told, in sentences."""
        quiet_min = FLAPPING_CLEAR_S / 60.0
        return (
            f"It came back {FLAPPING_RETURNS} times within an hour; its end is told when it was "
            f"away for {quiet_min:g} minutes. {self.alert.message}"
        )


Happening = Triggered | Resolved | Flapping
