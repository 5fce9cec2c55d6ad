"""What a running task can ask and say."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property

from actors.alerts.client import AlertClient
from actors.feed.client import FeedClient
from actors.indicators.client import IndicatorClient
from infra.clock import Clock, SystemClock
from infra.db.store import Store, open_store
from infra.settings import Settings
from infra.sources.facts import SourceFacts, source_facts
from infra.universe import Universe, load_universe


class TaskServices:
    """The service as tasks see it, made when it is first used; one for each process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock: Clock = SystemClock()

    @cached_property
    def store(self) -> Store:
        """The store; tasks only use units of work, which commit by themselves."""
        return open_store(self.settings, self.clock)

    @cached_property
    def feed(self) -> FeedClient:
        """Quotes, and what is monitored."""
        return FeedClient(self.settings.actor_wait_s)

    @cached_property
    def indicators(self) -> IndicatorClient:
        """Bars, indicators and analyses."""
        return IndicatorClient(self.settings.actor_wait_s)

    @cached_property
    def alerts(self) -> AlertClient:
        """Alerts."""
        return AlertClient(self.settings.actor_wait_s)

    @cached_property
    def source(self) -> SourceFacts:
        """What kind of prices these are."""
        return source_facts(self.settings)

    @cached_property
    def universe(self) -> Universe:
        """Categories and names of symbols."""
        return load_universe(self.settings.thresholds_file)

    async def close(self) -> None:
        """Close what was opened."""
        if "store" in self.__dict__:
            await self.store.close()


@dataclass(slots=True)
class TaskContext:
    """One try of a task. A task gets it as the parameter that is annotated with this class."""

    task_id: str
    name: str
    attempt: int
    services: TaskServices
    tell: Callable[[float, str], None] = field(repr=False)

    def progress(self, pct: float, message: str = "") -> None:
        """Say how far the task is, 0 to 100, and with what.

        Costs microseconds: what is said often is told four times a second.
        """
        self.tell(min(100.0, max(0.0, float(pct))), str(message)[:200])


_running: ContextVar[TaskContext | None] = ContextVar("finstage_task", default=None)


def current_task() -> TaskContext | None:
    """Return the task that this code runs in, None outside of one."""
    return _running.get()


def enter_task(context: TaskContext | None) -> None:
    """Let `current_task` return this from here on."""
    _running.set(context)
