"""What readings and rules make of each other: alerts that begin, last, come back and end.

Time is given, nothing is asked here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from actors.monitor.alerting.rules import DEFAULT_RULES, ServiceAlertRule, checked
from actors.monitor.plain import plain, restored
from actors.monitor.reading import Reading
from infra.clock import utc

SHORTEST_CLEAR_S = 30.0
FLAPPING_RETURNS = 3
FLAPPING_WITHIN_S = 3_600.0
FLAPPING_CLEAR_S = 600.0
# What was not measured for longer counts anew: nobody knows what was between.
LONGEST_GAP_S = 300.0
_GAP_SPANS = 3.0  # of readings that are far apart

CLEARED = "the condition cleared"
RULE_DISABLED = "the rule was disabled"
RULE_REMOVED = "the rule was removed"
RULE_CHANGED = "the rule was changed"


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


class AlertEngine:
    """Holds readings against rules. State: soft; `state` and `restore` carry it over a restart.

    A rule has at most one active alert, and what is told of a rule alternates: `Triggered` or
    `Flapping`, then `Resolved`. A return within the cool-down opens the ended alert again without
    a word; if it still lasts when the cool-down is over, counted from the `Resolved` that was
    told, it is told as `Triggered`, unless it was acknowledged. The end of a return that nobody
    was told of is not told either.
    """

    def __init__(self, rules: Iterable[ServiceAlertRule] = DEFAULT_RULES) -> None:
        self._rules = {rule.id: checked(rule) for rule in rules}
        self._watches: dict[str, _Watch] = {}
        self._changed: list[ServiceAlert] = []

    def look(self, reading: Reading, now_s: float) -> list[Happening]:
        """Return what is to be told after a reading, in the order of rules."""
        self._changed = []
        told = [one for rule_id in list(self._watches) for one in self._retire(rule_id, now_s)]
        longest_gap_s = max(LONGEST_GAP_S, _GAP_SPANS * reading.span_s)
        for rule in self._rules.values():
            value = reading.value(rule.metric_name)
            if not rule.enabled or value is None or not math.isfinite(value):
                continue
            watch = self._watches.setdefault(rule.id, _Watch(_subject(rule)))
            before = watch.alert
            told += watch.look(rule, value, now_s, longest_gap_s)
            self._note(before, watch.alert)
        return told

    def rules(self) -> list[ServiceAlertRule]:
        """Return the rules in the order in which they were added."""
        return list(self._rules.values())

    def put(self, rule: ServiceAlertRule, now_s: float) -> list[Happening]:
        """Add a rule, or put it in the place of the one of its id; return what is to be told.

        Raises RangeInvalid. An alert goes on under another threshold; it ends if the rule is
        disabled, or looks at something else now: then its cool-down is forgotten too.
        """
        self._changed = []
        rule = checked(rule)
        watch = self._watches.get(rule.id)
        if watch is not None and self._rules.get(rule.id) != rule:
            watch.count_anew()
        self._rules[rule.id] = rule
        return self._retire(rule.id, now_s)

    def remove(self, rule_id: str, now_s: float) -> list[Happening]:
        """Forget a rule, end its alert and return what is to be told; raises KeyError."""
        self._changed = []
        del self._rules[rule_id]
        return self._retire(rule_id, now_s)

    def acknowledge(self, alert_id: str, now_s: float) -> ServiceAlert:
        """Note that somebody knows of an active alert; raises KeyError for any other.

        The first time counts. The alert stays active, and its end is told.
        """
        self._changed = []
        for watch in self._watches.values():
            alert = watch.alert
            if alert is not None and alert.id == alert_id and alert.is_active:
                if not alert.acknowledged:
                    watch.alert = replace(alert, acknowledged=True, acknowledged_at_s=now_s)
                    self._changed.append(watch.alert)
                return watch.alert or alert
        raise KeyError(alert_id)

    def active(self) -> list[ServiceAlert]:
        """Return the alerts that are not over, the oldest first."""
        alerts = [watch.alert for watch in self._watches.values()]
        found = [alert for alert in alerts if alert is not None and alert.is_active]
        return sorted(found, key=lambda alert: alert.triggered_at_s)

    @property
    def changed(self) -> tuple[ServiceAlert, ...]:
        """What the last call changed of alerts, told or not, beside their values: for history."""
        return tuple(self._changed)

    def state(self) -> dict[str, Any]:
        """Return what is remembered, as plain types that JSON takes. Rules are not in it."""
        return {"watches": {rule_id: plain(watch) for rule_id, watch in self._watches.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Remember what `state` gave, in the place of what is known.

        Alerts whose rule is gone, disabled or another by now end with the next reading.
        """
        self._watches = {
            rule_id: restored(_Watch, body) for rule_id, body in state["watches"].items()
        }
        self._changed = []

    def _retire(self, rule_id: str, now_s: float) -> list[Happening]:
        watch = self._watches.get(rule_id)
        if watch is None:
            return []
        reason = watch.why_retired(self._rules.get(rule_id))
        if reason is None:
            return []
        before = watch.alert
        told = watch.close(reason, now_s)
        self._note(before, watch.alert)
        if reason != RULE_DISABLED:
            del self._watches[rule_id]
        return told

    def _note(self, before: ServiceAlert | None, after: ServiceAlert | None) -> None:
        if after is not None and _lasting(after) != _lasting(before):
            self._changed.append(after)


@dataclass(slots=True)
class _Watch:
    """What is known of one rule. `subject` is what it looks at; `alert` the open or last one."""

    subject: str
    seen_at_s: float | None = None
    met_since_s: float | None = None
    clear_since_s: float | None = None
    alert: ServiceAlert | None = None
    is_told: bool = False  # people believe that it is active
    end_told_at_s: float | None = None
    returned_at_s: list[float] = field(default_factory=list)  # within the hour

    def look(
        self, rule: ServiceAlertRule, value: float, now_s: float, longest_gap_s: float
    ) -> list[Happening]:
        if self.seen_at_s is not None and now_s - self.seen_at_s > longest_gap_s:
            self.count_anew()
        self.seen_at_s = now_s
        self.met_since_s = _since(self.met_since_s, rule.is_met(value), now_s)
        self.clear_since_s = _since(self.clear_since_s, rule.is_clear(value), now_s)
        if self.alert is None or not self.alert.is_active:
            return self._begin(rule, value, now_s)
        self.alert = _renewed(self.alert, rule, value)
        if self._is_over(self.alert, rule, now_s):
            return self.close(CLEARED, now_s)
        return self._tell_late(self.alert, rule, now_s)

    def close(self, reason: str, now_s: float) -> list[Happening]:
        if self.alert is None or not self.alert.is_active:
            return []
        self.alert = replace(self.alert, resolved_at_s=now_s, resolved_reason=reason)
        if not self.is_told:
            return []
        self.is_told = False
        self.end_told_at_s = now_s
        return [Resolved(self.alert)]

    def count_anew(self) -> None:
        self.met_since_s = self.clear_since_s = None

    def why_retired(self, rule: ServiceAlertRule | None) -> str | None:
        if rule is None:
            return RULE_REMOVED
        if self.subject != _subject(rule):
            return RULE_CHANGED
        return None if rule.enabled else RULE_DISABLED

    def _begin(self, rule: ServiceAlertRule, value: float, now_s: float) -> list[Happening]:
        if self.met_since_s is None or now_s - self.met_since_s < rule.duration_s:
            return []
        if self.alert is not None and self.alert.resolved_at_s is not None:
            if now_s - self.alert.resolved_at_s < _cooldown_s(rule):
                return self._return(_renewed(self.alert, rule, value), now_s)
        self.alert = _alert(rule, value, now_s)
        self.returned_at_s = []
        self.is_told = True
        return [Triggered(self.alert)]

    def _return(self, alert: ServiceAlert, now_s: float) -> list[Happening]:
        recent = [at_s for at_s in self.returned_at_s if now_s - at_s < FLAPPING_WITHIN_S]
        self.returned_at_s = [*recent, now_s]
        was_flapping = alert.is_flapping
        self.alert = replace(
            alert,
            resolved_at_s=None,
            resolved_reason=None,
            acknowledged=False,
            acknowledged_at_s=None,
            repeats=alert.repeats + 1,
            is_flapping=was_flapping or len(self.returned_at_s) >= FLAPPING_RETURNS,
        )
        if was_flapping or not self.alert.is_flapping:
            return []
        self.is_told = True
        return [Flapping(self.alert)]

    def _is_over(self, alert: ServiceAlert, rule: ServiceAlertRule, now_s: float) -> bool:
        enough_s = max(rule.duration_s, SHORTEST_CLEAR_S)
        if alert.is_flapping:
            enough_s = max(enough_s, FLAPPING_CLEAR_S)
        return self.clear_since_s is not None and now_s - self.clear_since_s >= enough_s

    def _tell_late(
        self, alert: ServiceAlert, rule: ServiceAlertRule, now_s: float
    ) -> list[Happening]:
        """Tell of a return that lasts: people were told that it ended."""
        if self.is_told or alert.acknowledged or self.met_since_s is None:
            return []
        if self.end_told_at_s is not None and now_s - self.end_told_at_s < _cooldown_s(rule):
            return []
        self.is_told = True
        return [Triggered(alert)]


def _subject(rule: ServiceAlertRule) -> str:
    return f"{rule.metric_name} {rule.condition}"


def _cooldown_s(rule: ServiceAlertRule) -> float:
    return rule.cooldown_minutes * 60.0


def _since(since_s: float | None, holds: bool, now_s: float) -> float | None:
    if not holds:
        return None
    return now_s if since_s is None else since_s


def _alert(rule: ServiceAlertRule, value: float, now_s: float) -> ServiceAlert:
    return ServiceAlert(
        id=f"{rule.id}_{round(1_000 * now_s)}",
        rule_id=rule.id,
        title=rule.name,
        message=rule.sentence(value),
        severity=rule.severity,
        metric_name=rule.metric_name,
        current_value=value,
        threshold=rule.threshold,
        triggered_at_s=now_s,
    )


def _renewed(alert: ServiceAlert, rule: ServiceAlertRule, value: float) -> ServiceAlert:
    return replace(
        alert,
        title=rule.name,
        message=rule.sentence(value),
        severity=rule.severity,
        current_value=value,
        threshold=rule.threshold,
    )


def _lasting(alert: ServiceAlert | None) -> ServiceAlert | None:
    """Return an alert without what every reading changes."""
    return alert and replace(alert, current_value=0.0, message="")
