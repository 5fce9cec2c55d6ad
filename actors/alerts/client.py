"""The alerts as others see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.runtime import ActorClient

if TYPE_CHECKING:
    from actors.alerts.actor import AlertActor as Methods
else:
    Methods = object

ALERT_ENGINE = "finstage-alerts"


class AlertClient(ActorClient, Methods):
    """The exposed methods of the AlertActor, from any process."""

    actor_name = ALERT_ENGINE
