"""The alerts as others see them."""

from __future__ import annotations

from collections.abc import Sequence
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

        Returns how many alerts they gave, once those are in the store; raises StoreError.
        """
        given: int = await self._ask("check", tuple(updates))
        return given

    async def put_rule(self, rule: StoredRule) -> None:
        """Keep a rule and follow it; raises ExpressionInvalid, SymbolUnknown, StoreError."""
        await self._ask("put_rule", rule)

    async def remove_rule(self, rule_id: str) -> bool:
        """Delete a rule; False if there is none of this id."""
        was_there: bool = await self._ask("remove_rule", rule_id)
        return was_there
