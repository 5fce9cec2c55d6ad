"""What processes say of themselves, and are told, as others see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.runtime import ActorClient
from actors.telemetry.memory_book import MemoryBook, Sample

if TYPE_CHECKING:
    from actors.telemetry.telemetry import Telemetry as Methods
else:
    Methods = object

__all__ = ["CACHE", "MemoryBook", "Sample", "TelemetryClient"]

CACHE = "finstage-cache"  # the actor whose part it is


class TelemetryClient(ActorClient, Methods):
    """The exposed methods of the telemetry, from any process."""

    actor_name = CACHE
    part = "telemetry"
