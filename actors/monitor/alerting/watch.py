"""What is known of one rule: since when its condition holds, and its alert."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from actors.monitor.alerting.alert import (
    FLAPPING_CLEAR_S,
    FLAPPING_RETURNS,
    Flapping,
    Happening,
    Resolved,
    ServiceAlert,
    Triggered,
)
from actors.monitor.alerting.rules import ServiceAlertRule

SHORTEST_CLEAR_S = 30.0


FLAPPING_WITHIN_S = 3_600.0


CLEARED = "the condition cleared"


RULE_DISABLED = "the rule was disabled"


RULE_REMOVED = "the rule was removed"


RULE_CHANGED = "the rule was changed"


@dataclass(slots=True)
class RuleWatch:
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
        if self.subject != subject_of(rule):
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


def subject_of(rule: ServiceAlertRule) -> str:
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
