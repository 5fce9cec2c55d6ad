"""The alerts as others see them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from actors.runtime import ActorClient

if TYPE_CHECKING:  # who only calls does without the database
    from infra.db.alert_rules import StoredRule

ALERT_ENGINE = "finstage-alerts"


class AlertClient(ActorClient):
    """Calls to the alert engine; each raises ActorUnavailable if it does not come back in time."""

    actor_name = ALERT_ENGINE

    async def check(self, updates: Sequence[dict[str, Any]]) -> int:
        """Hold prices that do not flow through the hub against the rules, as `price_update`s.

        Returns how many alerts they gave, once those are in the store; raises StoreError, and
        gives them later.
        """
        given: int = await self._ask("check", tuple(updates))
        return given

    async def add_rule(self, rule: StoredRule, most: int) -> None:
        """Keep a rule, of `most` at most, and follow it.

        Raises RangeInvalid, ExpressionInvalid, SymbolUnknown, StoreError.
        """
        await self._ask("add_rule", rule, most)

    async def change_rule(self, rule: StoredRule) -> None:
        """Put a rule in the place of the one of its id; raises AlertRuleUnknown, as `add_rule`."""
        await self._ask("change_rule", rule)

    async def enable_rule(self, rule_id: str, enabled: bool, at: datetime) -> StoredRule:
        """Let a rule count, or not, and return it; raises AlertRuleUnknown, as `add_rule`."""
        rule: StoredRule = await self._ask("enable_rule", rule_id, enabled, at)
        return rule

    async def remove_rule(self, rule_id: str) -> bool:
        """Delete a rule; False if there is none of this id."""
        was_there: bool = await self._ask_once("remove_rule", rule_id)
        return was_there
