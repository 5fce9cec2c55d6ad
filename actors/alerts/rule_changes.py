"""Users' rules as they change: in the store first, then followed; one change after the other."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime

from actors.alerts.user_rules import UserRule, UserRules
from actors.indicators.client import LiveCondition
from actors.turn import Turn
from infra.db.alert_rules import StoredRule
from infra.db.store import Store
from infra.db.unit import Unit
from infra.errors import AlertRuleUnknown, ExpressionInvalid, RangeInvalid

logger = logging.getLogger(__name__)


class RuleChanges:
    """What is followed is what the store has last. State: none of its own.

    `condition_of` reads an expression; `check` raises why what a rule looks at cannot be had.
    Changes raise ExpressionInvalid, StoreError and what `check` does; then nothing changed.
    """

    def __init__(
        self,
        store: Store,
        rules: UserRules,
        condition_of: Callable[[str], Awaitable[LiveCondition]],
        check: Callable[[UserRule], Awaitable[None]],
    ) -> None:
        self._store = store
        self._rules = rules
        self._condition_of = condition_of
        self._check = check
        self._turn = Turn()

    async def load(self) -> None:
        """Follow all rules that count."""
        async with self._turn:
            for stored in await self._store.read(lambda unit: unit.alert_rules.enabled()):
                try:
                    self._rules.put(await self._compiled(stored))
                except ExpressionInvalid as error:  # of a former version's language
                    why = {"rule": stored.id, "why": str(error)}
                    logger.warning("alerts.rule_unread", extra=why)

    async def add(self, rule: StoredRule, most: int) -> None:
        """Keep a rule and follow it, armed; the same one again is no other.

        Raises RangeInvalid where there are as many as there may be.
        """

        async def work(unit: Unit) -> None:
            if await unit.alert_rules.put(rule):
                return
            count = await unit.alert_rules.count()
            if count >= most:
                raise RangeInvalid(
                    ("body",), f"there are {count} rules, the limit is {most}", most
                )
            await unit.alert_rules.add(rule)

        await self._put(rule, work)

    async def change(self, rule: StoredRule) -> None:
        """Put a rule in the place of the one of its id, armed; raises AlertRuleUnknown."""

        async def work(unit: Unit) -> None:
            if not await unit.alert_rules.put(rule):
                raise AlertRuleUnknown(rule.id)

        await self._put(rule, work)

    async def enable(self, rule_id: str, enabled: bool, at: datetime) -> StoredRule:
        """Let a rule count, armed, or not; return it. Raises AlertRuleUnknown."""
        if enabled:
            await self._check(await self._compiled(await self._stored(rule_id)))
        async with self._turn:
            rule = replace(await self._stored(rule_id), enabled=enabled, updated_at=at)
            compiled = await self._compiled(rule)
            await self._store.write(lambda unit: unit.alert_rules.put(rule))
            self._follow(rule, compiled)
        return rule

    async def remove(self, rule_id: str) -> bool:
        """Delete a rule; False if there is none of this id."""
        async with self._turn:
            was_there = await self._store.write(lambda unit: unit.alert_rules.remove(rule_id))
            self._rules.remove(rule_id)
        return was_there

    async def _put(self, rule: StoredRule, work: Callable[[Unit], Awaitable[None]]) -> None:
        compiled = await self._compiled(rule)
        if rule.enabled:
            await self._check(compiled)  # may ask the source: not in the way of other changes
        async with self._turn:
            await self._store.write(work)
            self._follow(rule, compiled)

    def _follow(self, rule: StoredRule, compiled: UserRule) -> None:
        if rule.enabled:
            self._rules.put(compiled)
        else:
            self._rules.remove(rule.id)

    async def _stored(self, rule_id: str) -> StoredRule:
        found = await self._store.read(lambda unit: unit.alert_rules.get(rule_id))
        if found is None:
            raise AlertRuleUnknown(rule_id)
        return found

    async def _compiled(self, stored: StoredRule) -> UserRule:
        condition = await self._condition_of(stored.expression)
        return UserRule(
            id=stored.id,
            name=stored.name,
            symbols=stored.symbols,
            condition=condition,
            interval=stored.interval,
            repeat=stored.repeat,
            cool_down_s=stored.cooldown_s,
            hysteresis_pct=stored.hysteresis_pct,
            severity=stored.severity,
            targets=stored.targets,
            secret=stored.secret,
        )
