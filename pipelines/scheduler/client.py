"""The scheduler as others see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from actors.runtime import ActorClient
from infra.errors import StoreBusy, StoreError, StoreExhausted, StoreFull, StoreUnsure

if TYPE_CHECKING:  # who only calls does without the database
    from infra.db.watch import StoreReport

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


class SchedulerClient(ActorClient):
    """Calls to the scheduler; each raises ActorUnavailable if it does not come back in time."""

    actor_name = SCHEDULER

    async def jobs(self) -> list[dict[str, Any]]:
        """Return all jobs with their next and last runs."""
        rows: list[dict[str, Any]] = await self._ask("jobs")
        return rows

    async def run_now(self, name: str) -> str:
        """Start a job and return the run's id; raises JobUnknown, JobRunning."""
        run_id: str = await self._ask_once("run_now", name)
        return run_id

    async def pause(self, name: str) -> None:
        """Let a job rest until it is resumed; raises JobUnknown, StoreError."""
        await self._ask("pause", name)

    async def resume(self, name: str) -> None:
        """Let a job run at its times again; raises JobUnknown, StoreError."""
        await self._ask("resume", name)

    async def store_state(self) -> StoreState:
        """Return whether the store answers; does not wait for a scheduler that restarts."""
        state: StoreState = await self._ask_now("store_state", wait_s=1.0)
        return state

    async def store_reports(self) -> list[StoreReport]:
        """Return what queries cost in the scheduler and in the jobs so far."""
        reports: list[StoreReport] = await self._ask("store_reports")
        return reports

    async def reset_store_reports(self) -> str:
        """Count queries from zero; return the scheduler's process's name."""
        name: str = await self._ask("reset_store_reports")
        return name
