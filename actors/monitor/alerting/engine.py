"""What readings and rules make of each other: alerts that begin, last, come back and end.

Time is given, nothing is asked here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from actors.monitor.alerting.alert import Happening, ServiceAlert
from actors.monitor.alerting.rules import DEFAULT_RULES, ServiceAlertRule, checked
from actors.monitor.alerting.watch import RULE_DISABLED, RuleWatch, subject_of
from actors.monitor.plain import plain, restored
from actors.monitor.reading import Reading

# What was not measured for longer counts anew: nobody knows what was between.
LONGEST_GAP_S = 300.0
_GAP_SPANS = 3.0  # of readings that are far apart


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
        self._watches: dict[str, RuleWatch] = {}
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
            watch = self._watches.setdefault(rule.id, RuleWatch(subject_of(rule)))
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
            rule_id: restored(RuleWatch, body) for rule_id, body in state["watches"].items()
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


def _lasting(alert: ServiceAlert | None) -> ServiceAlert | None:
    """Return an alert without what every reading changes."""
    return alert and replace(alert, current_value=0.0, message="")
