"""Which optimisation rules there are, which are on, and what was switched when."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, Literal

from actors.monitor.checking import refusal
from actors.monitor.comparison import measured
from actors.monitor.metrics import METRICS
from actors.monitor.optimisation.built_in import BUILT_IN
from actors.monitor.optimisation.rules import Rule, checked_new
from actors.monitor.plain import plain, restored
from actors.monitor.reading import Reading
from infra.errors import MonitorConflict, MonitorUnknown, RangeInvalid
from infra.near_names import near_names

HISTORY_MAX = 1_000
RULES_MAX = 200

Status = Literal["disabled", "enabled", "testing", "rollback", "error"]
Performance = dict[str, float | None]

# (rule, metric, above, what to say): reasons that make a recommendation urgent.
_URGENT = (
    ("async_api_endpoints", "cpu_percent", 70.0, "CPU is at {value:.0f} %"),
    ("memory_optimization_basic", "memory_percent", 80.0, "memory is at {value:.0f} %"),
    ("caching_technical_analysis", "avg_response_time", 1_000.0, "answers take {value:.0f} ms"),
)
_BENEFITS = {
    "memory_optimization": "less memory",
    "caching": "shorter answer times, fewer questions to the source",
    "async_processing": "more requests at the same time, less CPU for each",
    "background_tasks": "short answers stay short while long work runs",
    "websocket_streaming": "slow readers keep up with the market",
    "database_optimization": "shorter queries",
}


@dataclass(frozen=True, slots=True)
class State:
    """Of one rule; `reason`: of its last switch. Times are None if it never was."""

    status: Status
    enabled_at_s: float | None = None
    disabled_at_s: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One switch, and who asked says why. `number` counts up and is never used twice."""

    number: int
    rule_id: str
    status: Status
    applied_at_s: float
    performance_before: Performance = field(default_factory=dict)
    performance_after: Performance | None = None
    error_message: str | None = None
    rollback_reason: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Switched:
    """What a switch did; `event` is None if the rule was as wanted.

    `dependents`: rules that are on and depend on one that went off. They work without.
    """

    rule_id: str
    status: Status
    event: Event | None
    dependents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of one rule of a batch."""

    rule_id: str
    status: Status | None
    success: bool
    error_message: str | None = None


class RuleRegistry:
    """Rules and their states; a fresh one has the built-in rules, all on.

    At most 200 rules and the last 1,000 events are kept.
    """

    def __init__(self, now_s: float) -> None:
        self._rules: dict[str, Rule] = dict(BUILT_IN)
        self._states = {name: State("enabled", enabled_at_s=now_s) for name in BUILT_IN}
        self._testing: frozenset[str] = frozenset()
        self._events: deque[Event] = deque(maxlen=HISTORY_MAX)
        self._next_number = 1
        self._baseline: dict[str, float | None] | None = None

    @property
    def rules(self) -> Mapping[str, Rule]:
        """Every rule by its id, built-in ones first."""
        return self._rules

    @property
    def enabled(self) -> frozenset[str]:
        """Ids of the rules that are on."""
        return frozenset(name for name in self._rules if self._is_on(name))

    @property
    def history(self) -> tuple[Event, ...]:
        """The last events, oldest first."""
        return tuple(self._events)

    @property
    def baseline(self) -> dict[str, float | None] | None:
        """Means by metric, and their `timestamp` (Unix seconds); None before it is set."""
        return None if self._baseline is None else dict(self._baseline)

    def rule(self, rule_id: str) -> Rule:
        """Return a rule; raises MonitorUnknown."""
        if rule_id not in self._rules:
            near = near_names(rule_id, self._rules)
            raise MonitorUnknown("optimisation rule", rule_id, near)
        return self._rules[rule_id]

    def state(self, rule_id: str) -> State:
        """Return a rule's state; raises MonitorUnknown."""
        self.rule(rule_id)
        state = self._states[rule_id]
        return replace(state, status="testing") if rule_id in self._testing else state

    def is_newest(self, event: Event) -> bool:
        """Return whether a rule was not switched again since an event."""
        return not any(
            one.rule_id == event.rule_id and one.number > event.number for one in self._events
        )

    def copy(self) -> RuleRegistry:
        """Return a registry that can be changed by itself; what it holds never changes."""
        made = copy(self)
        made._rules, made._states = dict(self._rules), dict(self._states)
        made._events = self._events.copy()
        return made

    def set_testing(self, rule_ids: Iterable[str]) -> None:
        """Tell which rules differ from request to request, for an A/B test.

        Their status says so; for requests outside of the test they stay on or off. Not kept over
        restarts.
        """
        self._testing = frozenset(rule_ids)

    def enable(
        self,
        rule_id: str,
        force: bool,
        now_s: float,
        performance: Performance | None = None,
        reason: str = "",
    ) -> Switched:
        """Switch a rule on; no event if it is on.

        Raises MonitorUnknown, and MonitorConflict unless `force` while rules that it depends on
        are off. `performance`: just before.
        """
        missing = ", ".join(self._missing(rule_id))
        if missing and not self._is_on(rule_id):
            if not force:
                raise MonitorConflict(
                    f"{rule_id} depends on {missing}: enable first, or use force"
                )
            reason = "; ".join(filter(None, (reason, f"by force, without {missing}")))
        return self._switch(rule_id, "enabled", reason, now_s, performance)

    def disable(
        self, rule_id: str, reason: str, now_s: float, performance: Performance | None = None
    ) -> Switched:
        """Switch a rule off; no event if it is disabled. Raises MonitorUnknown.

        Rules that depend on it stay on and are listed in the result.
        """
        return self._switch(rule_id, "disabled", reason, now_s, performance)

    def roll_back(
        self, rule_id: str, reason: str, now_s: float, performance: Performance | None = None
    ) -> Switched:
        """Switch a rule off because it made things worse; no event if it is off.

        Raises MonitorUnknown.
        """
        self.rule(rule_id)
        status: Status = "rollback" if self._is_on(rule_id) else self._states[rule_id].status
        return self._switch(rule_id, status, reason, now_s, performance)

    def enable_all(
        self,
        rule_ids: Sequence[str],
        force: bool,
        now_s: float,
        performance: Performance | None = None,
        reason: str = "",
    ) -> list[BatchResult]:
        """Switch rules on, each after those of the batch that it depends on.

        Results come in the order asked for; one that cannot be does not stop the others.
        """
        # A rule is added after those that it depends on.
        order = {name: place for place, name in enumerate(self._rules)}
        names = sorted(rule_ids, key=lambda name: order.get(name, -1))
        done = self._each(names, lambda name: self.enable(name, force, now_s, performance, reason))
        return [done[name] for name in dict.fromkeys(rule_ids)]

    def disable_all(
        self,
        rule_ids: Sequence[str],
        reason: str,
        now_s: float,
        performance: Performance | None = None,
    ) -> list[BatchResult]:
        """Switch rules off; one that cannot be does not stop the others."""
        done = self._each(rule_ids, lambda name: self.disable(name, reason, now_s, performance))
        return list(done.values())

    def add(self, rule: Mapping[str, Any]) -> Rule:
        """Add a user's rule, disabled; raises RangeInvalid."""
        if len(self._rules) >= RULES_MAX:
            raise refusal("id", f"there are {RULES_MAX} rules, remove one first")
        made = checked_new(rule, self._rules)
        self._rules[made.id] = made
        self._states[made.id] = State("disabled")
        return made

    def remove(self, rule_id: str) -> Rule:
        """Remove a user's rule that is off; its events stay.

        Raises MonitorUnknown or MonitorConflict.
        """
        rule = self.rule(rule_id)
        dependents = ", ".join(self._dependents(rule_id))
        for holds, reason in (
            (rule_id in BUILT_IN, "it is built in"),
            (self._is_on(rule_id), "it is enabled"),
            (dependents, f"{dependents} depend on it"),
        ):
            if holds:
                raise MonitorConflict(f"{rule_id} cannot be removed: {reason}")
        del self._rules[rule_id], self._states[rule_id]
        return rule

    def set_after(self, number: int, performance_after: Performance) -> bool:
        """Complete an event by its number; return False if the history has let it go."""
        for index, event in enumerate(self._events):
            if event.number == number:
                self._events[index] = replace(event, performance_after=performance_after)
                return True
        return False

    def set_baseline(self, readings: Sequence[Reading], now_s: float) -> dict[str, float | None]:
        """Make the means of `readings` the baseline; raises ValueError if there are none."""
        self._baseline = {**performance_of(readings), "timestamp": now_s}
        return dict(self._baseline)

    def described(self, rule_id: str) -> dict[str, Any]:
        """Return a rule and its state, times in Unix seconds; raises MonitorUnknown."""
        rule, state = self.rule(rule_id), self.state(rule_id)
        return {
            "id": rule.id,
            "name": rule.name,
            "description": rule.description,
            "type": rule.optimization_type,
            "status": state.status,
            "target_services": list(rule.target_services),
            "enabled_at_s": state.enabled_at_s,
            "disabled_at_s": state.disabled_at_s,
            "reason": state.reason,
            "dependencies": list(rule.dependencies),
            "performance_threshold": dict(rule.performance_threshold),
            "switches": rule.switches,
        }

    def counts(self) -> dict[str, int]:
        """Return how many rules are on, off (rolled back ones too) and in error."""
        found = Counter(state.status for state in self._states.values())
        return {
            "total_rules": len(self._rules),
            "enabled_rules": found["enabled"],
            "disabled_rules": found["disabled"] + found["rollback"],
            "error_rules": found["error"],
        }

    def recommendations(self, reading: Reading | None) -> list[dict[str, str]]:
        """Return which rules to enable, urgent ones first; those that switch nothing never.

        Urgent (high): the rule is off and its reading calls for it. Else (medium): it is disabled,
        and all that it depends on is on.
        """
        urgent = self._urgent(reading) if reading else {}
        found = [self._recommended(name, "high", said) for name, said in urgent.items()]
        for name, rule in self._rules.items():
            is_ready = all(map(self._is_on, rule.dependencies))
            is_disabled = self._states[name].status == "disabled"
            if name not in urgent and rule.switches and is_disabled and is_ready:
                said = "it is off, and all that it depends on is on"
                found.append(self._recommended(name, "medium", said))
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return plain types that JSON takes, for `restore`."""
        own = [plain(rule) for name, rule in self._rules.items() if name not in BUILT_IN]
        return {
            "rules": own,
            "states": {name: plain(state) for name, state in self._states.items()},
            "events": [plain(event) for event in self._events],
            "next_number": self._next_number,
            "baseline": self.baseline,
        }

    @classmethod
    def restore(cls, body: Mapping[str, Any], now_s: float) -> RuleRegistry:
        """Return the registry that `as_dict` was made of.

        A built-in rule that it does not know is on, as if it were fresh. A user's rule that can
        no longer be (its id was taken by a built-in one) is dropped.
        """
        made = cls(now_s)
        for rule in body["rules"]:
            try:
                made.add(rule)
            except RangeInvalid:
                continue
        kept = {name: state for name, state in body["states"].items() if name in made._rules}
        made._states.update({name: restored(State, state) for name, state in kept.items()})
        made._events.extend(restored(Event, event) for event in body["events"])
        made._next_number = body["next_number"]
        made._baseline = body["baseline"]
        return made

    def _is_on(self, rule_id: str) -> bool:
        return self._states[rule_id].status == "enabled"

    def _dependents(self, rule_id: str) -> tuple[str, ...]:
        return tuple(name for name, rule in self._rules.items() if rule_id in rule.dependencies)

    def _missing(self, rule_id: str) -> tuple[str, ...]:
        return tuple(name for name in self.rule(rule_id).dependencies if not self._is_on(name))

    def _switch(
        self,
        rule_id: str,
        status: Status,
        reason: str,
        now_s: float,
        performance: Performance | None,
    ) -> Switched:
        """Give a rule a status; no event where it has it."""
        self.rule(rule_id)
        before, is_on, event = self._states[rule_id], status == "enabled", None
        if before.status != status:
            after = replace(before, status=status, reason=reason)
            if is_on:
                after = replace(after, enabled_at_s=now_s)
            elif before.status == "enabled":
                after = replace(after, disabled_at_s=now_s)
            self._states[rule_id] = after
            event = Event(
                self._next_number,
                rule_id,
                status,
                now_s,
                dict(performance or {}),
                rollback_reason=None if is_on else reason or None,
                reason=reason,
            )
            self._next_number += 1
            self._events.append(event)
        dependents = () if is_on else filter(self._is_on, self._dependents(rule_id))
        return Switched(rule_id, self.state(rule_id).status, event, tuple(dependents))

    def _each(
        self, rule_ids: Sequence[str], switch: Callable[[str], Switched]
    ) -> dict[str, BatchResult]:
        done: dict[str, BatchResult] = {}
        for name in dict.fromkeys(rule_ids):
            try:
                done[name] = BatchResult(name, switch(name).status, True)
            except MonitorUnknown:
                done[name] = BatchResult(name, None, False, f"there is no rule {name[:80]!r}")
            except MonitorConflict as error:
                done[name] = BatchResult(name, self.state(name).status, False, str(error))
        return done

    def _urgent(self, reading: Reading) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, metric, above, said in _URGENT:
            value = reading.value(metric)
            if value is not None and value > above and not self._is_on(name):
                found[name] = said.format(value=value)
        return found

    def _recommended(self, rule_id: str, priority: str, reason: str) -> dict[str, str]:
        rule, state = self._rules[rule_id], self._states[rule_id]
        missing = self._missing(rule_id)
        if missing:
            reason += f"; enable {', '.join(missing)} first"
        if state.status == "rollback":
            reason += f"; it was rolled back: {state.reason}"
        return {
            "rule_id": rule_id,
            "rule_name": rule.name,
            "action": "enable",
            "priority": priority,
            "reason": reason,
            "expected_benefit": _BENEFITS[rule.optimization_type],
        }


def performance_of(readings: Sequence[Reading]) -> Performance:
    """Return the mean of each metric; None for one without values.

    Raises ValueError if there are no readings.
    """
    if not readings:
        raise ValueError("there are no readings yet")
    found: Performance = {}
    for metric in METRICS:
        values = measured(readings, metric)
        found[metric] = fmean(values) if values else None
    return found
