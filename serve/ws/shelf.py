"""The last alerts, by the numbers that the store gave them."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from infra.messages import Message, body_of

MOST_ALERTS = 1_000


class Shelved(NamedTuple):
    """An alert, and its offset in the epoch that goes on; 0 where it is of one before."""

    alert_id: int
    offset: int
    message: Message


class AlertShelf:
    """Alerts in the order of their numbers, each once, whatever epochs the hub went through.

    An alert that the hub is told of again, after it forgot everything, is known by its number.
    State: soft; the last `MOST_ALERTS`.
    """

    def __init__(self) -> None:
        self._alerts: deque[Shelved] = deque(maxlen=MOST_ALERTS)

    @property
    def newest(self) -> int:
        """Return the highest number that was told; 0 before the first."""
        return self._alerts[-1].alert_id if self._alerts else 0

    def add(self, offset: int, message: Message) -> bool:
        """Keep an alert; False where it was told before."""
        alert_id = number_of(message)
        if alert_id <= self.newest:
            return False
        self._alerts.append(Shelved(alert_id, offset, message))
        return True

    def new_epoch(self) -> None:
        """Forget offsets: those to come cannot be compared with them."""
        kept = [Shelved(a.alert_id, 0, a.message) for a in self._alerts]
        self._alerts = deque(kept, maxlen=MOST_ALERTS)

    def after(self, alert_id: int) -> list[Message]:
        """Return the alerts past a number, in order."""
        return [a.message for a in self._alerts if a.alert_id > alert_id]

    def before(self, offset: int) -> int:
        """Return the number of the last alert before an offset; 0 where it is not here."""
        numbers = [a.alert_id for a in self._alerts if a.offset < offset]
        return numbers[-1] if numbers else 0


def number_of(message: Message) -> int:
    """Return the number that the store gave an alert; raises MessageInvalid where it has none."""
    return int(body_of(message)["alert_id"])
