"""The scheduler as others see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from actors.runtime import ActorClient
from infra.errors import StoreBusy, StoreError, StoreExhausted, StoreFull, StoreUnsure

if TYPE_CHECKING:
    from pipelines.scheduler.actor import SchedulerActor as Methods
else:
    Methods = object

SCHEDULER = "finstage-scheduler"

Trouble = Literal["", "away", "busy", "full"]


@dataclass(frozen=True, slots=True)
class StoreState:
    """What is wrong with the store, nothing where all is well, and since when (Unix time).

    `trouble` is `away`, `busy` where it is locked, or `full`, then it is read but not written.
    """

    trouble: Trouble
    detail: str
    since_s: float


def trouble_of(error: StoreError) -> Trouble:
    """Return the word for an error of the store."""
    if isinstance(error, StoreFull):
        return "full"
    return "busy" if isinstance(error, (StoreBusy, StoreExhausted, StoreUnsure)) else "away"


class SchedulerClient(ActorClient, Methods):
    """The exposed methods of the SchedulerActor, from any process."""

    actor_name = SCHEDULER

    async def store_state(self) -> StoreState:
        """Return whether the store answers; does not wait for a scheduler that restarts."""
        state: StoreState = await self._ask_now("store_state", wait_s=1.0)
        return state
