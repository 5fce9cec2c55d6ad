"""Users' rules as they change: in the store first, then followed; one change after the other."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from actors.alerts.user_rules import UserRule, UserRules
from actors.indicators.client import LiveCondition
from actors.turn import Turn
from infra.db.alert_rules import StoredRule
from infra.db.store import Store
from infra.db.unit import Unit
from infra.errors import AlertRuleUnknown, ExpressionInvalid, RangeInvalid

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Change:
    """What a rule becomes, None where it is deleted; one that is off is not followed."""

    rule_id: str
    rule: UserRule | None = None


class RuleChanges:
    """What changes is in the store, then followed. State: a change that the store may have, soft.

    `condition_of` reads an expression; `check` raises why what a rule looks at cannot be had.
    Changes raise ExpressionInvalid, StoreError and what `check` does; then nothing changed, but
    that a change whose answer from the store was lost may be there: `settle` follows it.
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
        self._unsure: _Change | None = None

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
            await self._settle()
            rule = replace(await self._stored(rule_id), enabled=enabled, updated_at=at)
            compiled = await self._compiled(rule)
            await self._make(_Change(rule.id, compiled), lambda unit: unit.alert_rules.put(rule))
        return rule

    async def remove(self, rule_id: str) -> bool:
        """Delete a rule; False if there is none of this id."""
        async with self._turn:
            await self._settle()
            gone = _Change(rule_id)
            return await self._make(gone, lambda unit: unit.alert_rules.remove(rule_id))

    async def settle(self) -> None:
        """Follow the last change, if its answer was lost and the store has it.

        Raises StoreError: then it is to be tried again.
        """
        if self._unsure is not None:
            async with self._turn:
                await self._settle()

    async def _put(self, rule: StoredRule, work: Callable[[Unit], Awaitable[None]]) -> None:
        compiled = await self._compiled(rule)
        if rule.enabled:
            await self._check(compiled)  # may ask the source: not in the way of other changes
        async with self._turn:
            await self._settle()
            await self._make(_Change(rule.id, compiled), work)

    async def _make(self, change: _Change, work: Callable[[Unit], Awaitable[T]]) -> T:
        """Write a change and follow it. For who has the turn, and has settled the one before."""
        self._unsure = change
        done = await self._store.write(work)
        self._unsure = None
        self._follow(change)
        return done

    async def _settle(self) -> None:
        change = self._unsure
        if change is None:
            return

        async def work(unit: Unit) -> StoredRule | None:
            return await unit.alert_rules.get(change.rule_id, locked=True)

        found = await self._store.write(work)  # a write waits for the end of the one in doubt
        self._unsure = None
        if (found and found.updated_at) == (change.rule and change.rule.stored.updated_at):
            self._follow(change)

    def _follow(self, change: _Change) -> None:
        if change.rule is not None and change.rule.stored.enabled:
            self._rules.put(change.rule)
        else:
            self._rules.remove(change.rule_id)

    async def _stored(self, rule_id: str) -> StoredRule:
        found = await self._store.read(lambda unit: unit.alert_rules.get(rule_id))
        if found is None:
            raise AlertRuleUnknown(rule_id)
        return found

    async def _compiled(self, stored: StoredRule) -> UserRule:
        return UserRule(stored, await self._condition_of(stored.expression))
