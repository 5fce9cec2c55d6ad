"""What a job is, and what it works with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from actors.alerts.client import AlertClient
from actors.feed.client import FeedClient
from actors.indicators.client import IndicatorClient
from infra.clock import Clock
from infra.db.store import Store
from infra.errors import FinstageError
from infra.settings import Settings
from infra.sources.facts import SourceFacts
from infra.universe import Universe
from pipelines.jobs.spec import JobSpec
from pipelines.queue.client import TaskClient

_NAMED = 5


@dataclass(frozen=True, slots=True)
class JobContext:
    """One run's view of the service."""

    settings: Settings
    clock: Clock
    source: SourceFacts
    universe: Universe
    store: Store
    feed: FeedClient
    indicators: IndicatorClient
    alerts: AlertClient
    tasks: TaskClient

    async def monitored(self, *categories: str) -> list[str]:
        """Return the monitored symbols, of some categories or of all."""
        symbols = await self.feed.monitored()
        if not categories:
            return list(symbols)
        return [s for s in symbols if self.universe.category(s) in categories]


@dataclass(frozen=True, slots=True)
class Job:
    """A job's name, schedule and work; the work returns one sentence for people.

    It may run twice, so it writes nothing that must not be there twice. Whatever it raises is its
    failure.
    """

    spec: JobSpec
    run: Callable[[JobContext], Awaitable[str]]


class JobFailed(FinstageError):
    """Raised when a job could do nothing of what it should; the message names the reasons."""

    code = "job_failed"


def summary(done: int, what: str, failed: dict[str, FinstageError]) -> str:
    """Return what a job did, and for which symbols it could not; raises JobFailed if for all."""
    reasons = [f"{symbol}: {error.message}" for symbol, error in failed.items()]
    more = f", and {len(reasons) - _NAMED} more" if len(reasons) > _NAMED else ""
    listed = "; ".join(reasons[:_NAMED]) + more
    if failed and not done:
        raise JobFailed(f"nothing done: {listed}")
    return f"{done} {what}" + (f"; {len(failed)} failed: {listed}" if failed else "")
