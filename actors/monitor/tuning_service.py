"""Auto-tuning: decided from minutes, followed by every process, undone where it made it worse."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from actors.monitor.comparison import within
from actors.monitor.knobs import Knobs
from actors.monitor.performance_service import PerformanceService
from actors.monitor.plain import plain, restored
from actors.monitor.reading import Reading
from actors.monitor.repository import MonitorRepository
from actors.monitor.reviews import REVIEW_AFTER_S, WINDOW_S
from actors.monitor.rule_service import RuleService
from actors.monitor.tuning import Tuner
from actors.runtime import exposed
from actors.turn import Turn
from infra.settings import Settings

logger = logging.getLogger(__name__)

STATE, HISTORY = "tuning", "tuning"
_MOST_SYMBOLS = 1_000
_REVIEWED_S = WINDOW_S + REVIEW_AFTER_S + 120.0  # so old may be what says how a change did

Say = Callable[[str, str, str, str], Awaitable[None]]


class TuningService:
    """State: the knobs and what is to be reviewed, hard, in the store."""

    def __init__(
        self,
        repository: MonitorRepository,
        settings: Settings,
        performance: PerformanceService,
        rules: RuleService,
        changed: Callable[[], Awaitable[None]],
        say: Say,
        shed: Callable[[], Awaitable[None]],
    ) -> None:
        self._repository = repository
        self._performance = performance
        self._rules = rules
        self._changed = changed
        self._say = say
        self._shed = shed
        self._first = Knobs(batch_ms=settings.batch_ms, task_at_once=settings.task_workers)
        self.knobs = self._first
        self._is_on = settings.auto_tuning
        self._tuner = Tuner()
        self._looked_s = 0.0
        self._asked: Counter[str] = Counter()
        self._turn = Turn()

    async def load(self) -> None:
        """Take what the store remembers."""
        kept = await self._repository.get(STATE)
        if kept is not None:
            self.knobs = restored(Knobs, kept["knobs"])
            self._is_on = kept["is_on"]
            self._tuner = Tuner(state=kept["tuner"])

    @property
    def changed_batch_ms(self) -> float | None:
        """Return the hub's collecting time where it is not the settings'."""
        now = self.knobs.batch_ms
        return None if now == self._first.batch_ms else now

    @property
    def changed_tasks(self) -> int | None:
        """Return the tasks at one time where they are not the settings'."""
        now = self.knobs.task_at_once
        return None if now == self._first.task_at_once else now

    @exposed(once=True)
    async def take_asked(self, symbols: dict[str, int]) -> None:
        """Take how often the answers of symbols were made anew, by a replica."""
        self._asked.update(symbols)
        if len(self._asked) > _MOST_SYMBOLS:
            self._asked = Counter(
                {s: n // 2 for s, n in self._asked.most_common(_MOST_SYMBOLS // 2)}
            )

    # -- looking ----------------------------------------------------------------------------

    async def look(self) -> None:
        """Decide and review, once for each new minute of this process.

        A change is reviewed by what was measured around it, by a process before this one too.
        """
        minutes = self._performance.own_minutes
        if not minutes or minutes[-1].at_s <= self._looked_s:
            return
        self._looked_s = minutes[-1].at_s
        async with self._turn:
            is_short = self._is_on and not await self._undone() and await self._decide(minutes)
        if is_short:
            await self._shed()

    async def _undone(self) -> bool:
        now_s = self._repository.now_s
        readings = within(list(self._performance.minutes), _REVIEWED_S, now_s)
        tuner = self._draft()
        undo = tuner.review(readings, now_s)
        if undo is None:
            self._tuner = tuner  # stored with what is decided next
            return False
        for rule in undo.rules:
            await self._rules.disable(rule, "tuning that switched it on made things worse")
        name, text = "auto_tuning_undone", f"undone: {undo.review.change.reason}"
        await self._keep(undo.knobs, tuner, name, {"undone": undo.review.as_dict()}, text)
        await self._tell(name, text)
        return True

    async def _decide(self, minutes: Sequence[Reading]) -> bool:
        """Change what is to be changed; return whether memory is to be shed."""
        most_asked = [symbol for symbol, _ in self._asked.most_common(20)]
        tuner = self._draft()
        change = tuner.decide(
            minutes[-1],
            minutes[:-1],
            self.knobs,
            self._repository.now_s,
            most_asked,
            self._rules.enabled,
        )
        if change is None:
            await self._put(self.knobs, self._tuner, self._is_on)
            return False
        await self._keep(change.after, tuner, change.name, plain(change), change.reason)
        for rule in change.needs_rules:  # after it is stored: else nobody switches them off again
            await self._rules.enable(rule, True, f"auto-tuning: {change.reason}")
        await self._tell(change.name, change.reason)
        return change.sheds_memory

    def _draft(self) -> Tuner:
        """Return a copy to change: it counts once the store has it, or not at all."""
        return Tuner(state=self._tuner.state())

    async def _keep(
        self, knobs: Knobs, tuner: Tuner, name: str, body: dict[str, Any], text: str
    ) -> None:
        state = _state(knobs, tuner, self._is_on)
        noted = {"name": name, "text": text} | body
        await self._repository.put_noted(STATE, "", state, HISTORY, name, noted)
        self.knobs, self._tuner = knobs, tuner
        await self._changed()

    async def _put(self, knobs: Knobs, tuner: Tuner, is_on: bool) -> None:
        await self._repository.put(STATE, "", _state(knobs, tuner, is_on))
        self.knobs, self._tuner, self._is_on = knobs, tuner, is_on

    async def _tell(self, name: str, text: str) -> None:
        await self._say(name, "info", name.replace("_", " "), text)

    # -- what is asked ----------------------------------------------------------------------

    @exposed
    async def status(self) -> dict[str, Any]:
        """Return whether tuning is on, the knobs, and those of the settings."""
        pending = self._tuner.pending
        return {
            "auto_tuning": self._is_on,
            "knobs": plain(self.knobs),
            "configured": plain(self._first),
            "under_review": pending and plain(pending),
        }

    @exposed
    async def history(self, hours: float) -> list[dict[str, Any]]:
        """Return what was changed in the last hours and what came of it, the newest first."""
        return (await self._repository.since(HISTORY, hours))[::-1]

    @exposed
    async def switch(self, on: bool) -> None:
        """Tune by itself, or not; the knobs stay as they are."""
        async with self._turn:
            await self._put(self.knobs, self._tuner, on)

    @exposed
    async def reset(self) -> None:
        """Go back to what the settings say."""
        async with self._turn:
            await self._put(self._first, Tuner(), self._is_on)
        await self._changed()


def _state(knobs: Knobs, tuner: Tuner, is_on: bool) -> dict[str, Any]:
    return {"knobs": plain(knobs), "is_on": is_on, "tuner": tuner.state()}
