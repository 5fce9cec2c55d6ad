"""Optimisation rules: switched, evaluated by what came of it, and rolled back where worse."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from actors.monitor.optimisation.evaluation import (
    evaluate,
    looks_due,
    rollback_condition,
    window_after,
    window_before,
)
from actors.monitor.optimisation.registry import (
    Event,
    RuleRegistry,
    Switched,
    performance_of,
)
from actors.monitor.plain import plain
from actors.monitor.reading import Reading
from actors.monitor.repository import MonitorRepository
from actors.runtime import exposed
from actors.turn import Turn
from infra.clock import utc
from infra.errors import MonitorConflict, MonitorUnknown
from infra.metrics import RULE_ENABLED

logger = logging.getLogger(__name__)

REGISTRY = "optimisation_rules"
_RECENT = 30  # readings that say how it is now: five minutes

Say = Callable[[str, str, str, str], Awaitable[None]]


class RuleService:
    """State: hard, in the store, before a switch is answered; processes follow within seconds.

    Raises MonitorUnknown, MonitorConflict, RangeInvalid, StoreError.
    """

    def __init__(
        self,
        repository: MonitorRepository,
        readings: Sequence[Reading],
        changed: Callable[[], Awaitable[None]],
        say: Say,
        process: str,
    ) -> None:
        self._repository = repository
        self._readings = readings
        self._changed = changed
        self._say = say
        self._process = process
        self._registry = RuleRegistry(repository.now_s)
        self._watches = True
        self._every_s = 60.0
        self._looked_s = float("-inf")
        self._looks: dict[int, int] = {}  # so many looks at a switch were taken
        self._testing: frozenset[str] = frozenset()
        self._turn = Turn()

    async def load(self) -> None:
        """Take what the store remembers."""
        now_s = self._repository.now_s
        kept = await self._repository.get(REGISTRY)
        self._registry = (
            RuleRegistry(now_s) if kept is None else RuleRegistry.restore(kept["book"], now_s)
        )
        if kept is not None:
            self._watches, self._every_s = kept["watches"], kept["every_s"]
        self._tell_metrics()

    @property
    def off(self) -> frozenset[str]:
        """Return the rules that processes are to have off."""
        return frozenset(self._registry.rules) - self._registry.enabled

    @property
    def enabled(self) -> frozenset[str]:
        """Return the rules that are on."""
        return self._registry.enabled

    @property
    def known(self) -> frozenset[str]:
        """Return the ids of all rules."""
        return frozenset(self._registry.rules)

    def set_testing(self, rule_ids: Iterable[str]) -> None:
        """Tell which rules differ from request to request."""
        self._testing = frozenset(rule_ids)
        self._registry.set_testing(self._testing)

    # -- looking ----------------------------------------------------------------------------

    async def look(self) -> None:
        """Evaluate the last switch of each rule for 15 minutes; roll back what made it worse.

        A rule that was switched again is evaluated by what came of that alone.
        """
        now_s = self._repository.now_s
        if not self._watches or now_s - self._looked_s < self._every_s - 1.0:
            return
        self._looked_s = now_s
        newest = {event.rule_id: event for event in self._registry.history}
        for event in newest.values():
            due = looks_due(event.applied_at_s, now_s)
            if event.status == "enabled" and due > self._looks.get(event.number, 0):
                await self._evaluate(event)
                self._looks[event.number] = due
        known = {event.number for event in newest.values()}
        self._looks = {number: n for number, n in self._looks.items() if number in known}

    async def _evaluate(self, event: Event) -> None:
        at_s, events = event.applied_at_s, self._registry.history
        since_s = max((one.applied_at_s for one in events if one.number < event.number),
                      default=float("-inf"))  # fmt: skip
        until_s = min((one.applied_at_s for one in events if one.number > event.number),
                      default=float("inf"))  # fmt: skip
        before = window_before(self._readings, at_s, since_s)
        after = window_after(self._readings, at_s, until_s)
        rule = self._registry.rules.get(event.rule_id)
        if rule is None or not after:  # it may have been removed during this look
            return
        verdict = evaluate(rule, before, after)
        logger.info("rule.judged", extra={"rule": event.rule_id, "verdict": verdict.verdict})
        async with self._draft() as registry:
            registry.set_after(event.number, performance_of(after))
            is_rollback = verdict.is_rollback and registry.is_newest(event)
            if is_rollback:
                registry.roll_back(
                    event.rule_id, verdict.reason, self._repository.now_s, performance_of(after)
                )
        if is_rollback:
            text = f"{event.rule_id} was switched off again: {verdict.reason}"
            await self._say("optimisation_rolled_back", "warning", "Rule rolled back", text)

    # -- switching --------------------------------------------------------------------------

    @exposed
    async def enable(self, rule_id: str, force: bool, reason: str = "") -> dict[str, Any]:
        """Switch a rule on."""
        async with self._draft() as registry:
            done = registry.enable(
                rule_id, force, self._repository.now_s, self._performance(), reason
            )
        return self._shown_switch(done)

    @exposed
    async def disable(self, rule_id: str, reason: str) -> dict[str, Any]:
        """Switch a rule off; those that depend on it stay, and are listed."""
        async with self._draft() as registry:
            done = registry.disable(rule_id, reason, self._repository.now_s, self._performance())
        return self._shown_switch(done)

    @exposed
    async def enable_all(
        self, rule_ids: Sequence[str], force: bool, reason: str = ""
    ) -> list[dict[str, Any]]:
        """Switch rules on, each after those of them that it depends on."""
        async with self._draft() as registry:
            done = registry.enable_all(
                rule_ids, force, self._repository.now_s, self._performance(), reason
            )
        return [plain(one) for one in done]

    @exposed
    async def disable_all(self, rule_ids: Sequence[str], reason: str) -> list[dict[str, Any]]:
        """Switch rules off."""
        async with self._draft() as registry:
            done = registry.disable_all(
                rule_ids, reason, self._repository.now_s, self._performance()
            )
        return [plain(one) for one in done]

    @exposed(once=True)
    async def add(self, body: dict[str, Any]) -> None:
        """Add a rule of a user's, off."""
        async with self._draft() as registry:
            registry.add(body)

    @exposed(once=True)
    async def remove(self, rule_id: str) -> None:
        """Delete a user's rule that is off."""
        async with self._draft() as registry:
            registry.remove(rule_id)

    def _shown_switch(self, done: Switched) -> dict[str, Any]:
        event = done.event
        return {
            "rule_id": done.rule_id,
            "optimization_status": done.status,
            "applied_at": utc(
                self._repository.now_s if event is None else event.applied_at_s
            ).isoformat(),
            "performance_before": {} if event is None else event.performance_before,
            "performance_after": None,
            "error_message": None,
            "rollback_reason": None if event is None else event.rollback_reason,
            "reason": "" if event is None else event.reason,
            "dependents": list(done.dependents),
        }

    @asynccontextmanager
    async def _draft(self) -> AsyncIterator[RuleRegistry]:
        """Give a copy to change: it counts once the store has it, or not at all."""
        async with self._turn:
            draft = self._registry.copy()
            yield draft
            await self._put(draft, self._watches, self._every_s)
            draft.set_testing(self._testing)
            self._registry = draft
        self._tell_metrics()
        await self._changed()

    async def _put(self, registry: RuleRegistry, watches: bool, every_s: float) -> None:
        state = {"book": registry.as_dict(), "watches": watches, "every_s": every_s}
        await self._repository.put(REGISTRY, "", state)

    def _tell_metrics(self) -> None:
        for rule_id in self._registry.rules:
            is_on = rule_id in self._registry.enabled
            RULE_ENABLED.labels(rule_id, self._process).set(is_on)

    # -- what is asked ----------------------------------------------------------------------

    @exposed
    async def status(self) -> dict[str, Any]:
        """Return how many rules are in which state, and each."""
        return self._registry.counts() | {
            "monitoring_active": self._watches,
            "check_interval": self._every_s,
            "baseline_set": self._registry.baseline is not None,
            "rules": [self._shown(rule_id) for rule_id in self._registry.rules],
        }

    @exposed
    async def rule(self, rule_id: str) -> dict[str, Any]:
        """Return one rule with its thresholds."""
        rule = self._registry.rule(rule_id)
        return self._shown(rule_id) | {
            "performance_threshold": dict(rule.performance_threshold),
            "rollback_condition": rollback_condition(rule) or None,
        }

    def _shown(self, rule_id: str) -> dict[str, Any]:
        body = self._registry.described(rule_id)
        for name in ("enabled_at", "disabled_at"):
            at_s = body.pop(f"{name}_s", None)
            body[name] = None if at_s is None else utc(at_s).isoformat()
        return body

    @exposed
    async def set_baseline(self) -> dict[str, Any]:
        """Make what was measured in the last five minutes the baseline."""
        try:
            async with self._draft() as registry:
                registry.set_baseline(list(self._readings)[-_RECENT:], self._repository.now_s)
        except ValueError as error:
            raise MonitorConflict(f"nothing was measured yet: {error}") from None
        return await self.baseline()

    @exposed
    async def baseline(self) -> dict[str, Any]:
        """Return the baseline."""
        found = self._registry.baseline
        if found is None:
            raise MonitorUnknown("baseline before one is set")
        return found | {"timestamp": utc(found["timestamp"] or 0.0).isoformat()}

    @exposed
    async def history(self, hours: float) -> list[dict[str, Any]]:
        """Return the switches of the last hours, the newest first."""
        since_s = self._repository.now_s - hours * 3_600
        found = [asdict(one) for one in self._registry.history if one.applied_at_s >= since_s]
        for body in found:
            body["applied_at"] = utc(body.pop("applied_at_s")).isoformat()
        return found[::-1]

    @exposed
    async def recommendations(self) -> list[dict[str, Any]]:
        """Return what the last reading suggests to switch on."""
        last = self._readings[-1] if self._readings else None
        return list(self._registry.recommendations(last))

    @exposed
    async def watch(self, on: bool, every_s: float | None = None) -> None:
        """Evaluate switches, every so many seconds, or no more."""
        async with self._turn:
            every_s = self._every_s if every_s is None else every_s
            await self._put(self._registry, on, every_s)
            self._watches, self._every_s = on, every_s

    def _performance(self) -> dict[str, float | None]:
        recent = list(self._readings)[-_RECENT:]
        return performance_of(recent) if recent else {}
