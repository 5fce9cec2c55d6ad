"""The alerts as others see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.runtime import ActorClient

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
