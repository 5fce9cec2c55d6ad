"""A/B tests: their definitions, what was measured, and what that says."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from actors.monitor.checking import refusal
from actors.monitor.experiments.analysis import analyse, horizon_reached
from actors.monitor.experiments.assignment import Assigner, hashed
from actors.monitor.experiments.definition import (
    DRAFT,
    RUNNING,
    Experiment,
    checked,
    experiment_from,
    moved,
)
from actors.monitor.experiments.ledger import Ledger, Tally
from actors.monitor.optimisation.built_in import REQUEST_SCOPED
from actors.monitor.plain import plain
from actors.monitor.repository import MonitorRepository
from actors.monitor.rule_service import RuleService
from actors.runtime import exposed
from actors.turn import Turn
from infra.clock import utc
from infra.errors import MonitorConflict, MonitorUnknown, StoreError

logger = logging.getLogger(__name__)

KIND, LEDGER, FROZEN = "experiment", "experiment_ledger", "experiment_frozen"
MOST = 200
_KEEP_EVERY_S = 15.0


@dataclass(slots=True)
class _Entry:
    experiment: Experiment
    ledger: Ledger
    frozen: Ledger | None = None  # what there was when the test had all that it needs
    frozen_at_s: float | None = None
    is_changed: bool = False


class ExperimentService:
    """State: definitions and states hard, before they are answered; measurements every 15 s.

    The verdict is taken once, of what there was when every variant first had enough (a fixed
    horizon), so looking often finds nothing more often. Raises MonitorUnknown, MonitorConflict,
    RangeInvalid, StoreError.
    """

    def __init__(
        self,
        repository: MonitorRepository,
        rules: RuleService,
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        self._repository = repository
        self._rules = rules
        self._changed = changed
        self._entries: dict[str, _Entry] = {}
        self._turn = Turn()
        self._kept_s = float("-inf")
        self._assigner = Assigner(())

    async def load(self) -> None:
        """Take what the store remembers."""
        ledgers = await self._repository.all(LEDGER)
        frozen = await self._repository.all(FROZEN)
        for test_id, body in (await self._repository.all(KIND)).items():
            test = experiment_from(body)
            ledger = Ledger([variant.id for variant in test.variants])
            ledger.merge(ledgers.get(test_id, {}))
            entry = self._entries[test_id] = _Entry(test, ledger)
            if (copy := frozen.get(test_id)) is not None:
                entry.frozen = Ledger.from_dict(copy["ledger"])
                entry.frozen_at_s = copy["at_s"]
        self._follow()

    def running(self) -> tuple[dict[str, Any], ...]:
        """Return the tests that run, as JSON has them."""
        return tuple(map(plain, self._running()))

    def _running(self) -> list[Experiment]:
        experiments = [entry.experiment for entry in self._entries.values()]
        return [one for one in experiments if one.status == RUNNING]

    # -- measuring --------------------------------------------------------------------------

    @exposed(once=True)
    async def take(self, tallies: dict[str, Any]) -> None:
        """Add what a process counted; nothing of a test that does not run any more."""
        for test_id, tally in tallies.items():
            entry = self._entries.get(test_id)
            if entry is not None and entry.experiment.status == RUNNING:
                self._merge(entry, tally)

    def _merge(self, entry: _Entry, tally: dict[str, Any]) -> None:
        try:
            entry.ledger.merge(tally)
        except ValueError as error:  # of a test that had the id before
            logger.warning("experiment.refused", extra={"why": str(error)})
            return
        entry.is_changed = True
        if entry.frozen is None and horizon_reached(entry.experiment, entry.ledger):
            entry.frozen = entry.ledger.copy()
            entry.frozen_at_s = self._repository.now_s

    async def keep(self) -> None:
        """Write what was measured since the last time."""
        if self._repository.now_s - self._kept_s >= _KEEP_EVERY_S:
            async with self._turn:
                await self._keep_all()

    async def _keep_all(self) -> None:
        self._kept_s = self._repository.now_s
        for test_id, entry in list(self._entries.items()):
            if not entry.is_changed:
                continue
            entry.is_changed = False
            try:
                await self._keep_one(test_id, entry)
            except BaseException:  # a cancellation too: what was measured is still to be written
                entry.is_changed = True
                raise

    async def _keep_one(self, test_id: str, entry: _Entry) -> None:
        await self._repository.put(LEDGER, test_id, entry.ledger.as_dict())
        if entry.frozen is not None:
            frozen = {"at_s": entry.frozen_at_s, "ledger": entry.frozen.as_dict()}
            await self._repository.put(FROZEN, test_id, frozen)

    @exposed(once=True)
    async def record(
        self,
        test_id: str,
        variant_id: str,
        endpoint: str,
        user: str,
        response_ms: float,
        success: bool,
        metrics: dict[str, float],
    ) -> None:
        """Add one result that a client measured itself."""
        entry = self._entry(test_id)
        if entry.experiment.status != RUNNING:
            raise MonitorConflict(f"test {test_id} is {entry.experiment.status}, not running")
        variant = next((v for v in entry.experiment.variants if v.id == variant_id), None)
        if variant is None:
            known = ", ".join(v.id for v in entry.experiment.variants)
            raise refusal("variant_id", f"the variants are {known}")
        if entry.experiment not in self._assigner.matching(endpoint):
            raise refusal("endpoint", "the test is not about this endpoint")
        is_sticky = entry.experiment.is_sticky
        if is_sticky and self._assigner.variant_of(entry.experiment, user) != variant:
            raise refusal("variant_id", "this user is not in this variant")
        tally = Tally()
        tally.expose(variant_id)
        unit = hashed(test_id, user) if is_sticky else ""
        try:
            tally.add(variant_id, unit, response_ms, success, metrics)
        except ValueError as error:
            raise refusal((), str(error)) from None
        self._merge(entry, tally.take())

    # -- tests ------------------------------------------------------------------------------

    @exposed(once=True)
    async def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Make a test, a draft."""
        async with self._turn:
            if body["id"] in self._entries:
                raise MonitorConflict(f"there is a test {body['id']!r} already")
            if len(self._entries) >= MOST:
                raise MonitorConflict(f"there are {MOST} tests, the most there may be; delete one")
            test = self._made(body)
            await self._repository.put(KIND, test.id, plain(test))
            entry = self._entries[test.id] = _Entry(test, Ledger([v.id for v in test.variants]))
        return self._shown(entry)

    def _made(self, body: dict[str, Any]) -> Experiment:
        times = {"created_at_s": self._repository.now_s, "updated_at_s": self._repository.now_s}
        return checked(experiment_from(body | times), self._rules.known, REQUEST_SCOPED)

    @exposed(once=True)
    async def move(self, test_id: str, to: str, reason: str = "") -> dict[str, Any]:
        """Let a test be `started`, `paused`, `resumed`, `stopped` or `completed`."""
        async with self._turn:
            entry = self._entry(test_id)
            changed = moved(entry.experiment, to, self._repository.now_s, reason)
            await self._repository.put(KIND, test_id, plain(changed))
            entry.experiment = changed
            self._follow()
            with contextlib.suppress(StoreError):  # what was measured is written later then
                await self._keep_all()
        await self._changed()
        return self._shown(entry)

    @exposed(once=True)
    async def remove(self, test_id: str) -> None:
        """Delete a test that does not run, and all that was measured."""
        async with self._turn:
            entry = self._entry(test_id)
            if entry.experiment.status == RUNNING:
                raise MonitorConflict(f"test {test_id} runs: stop it first")
            await self._repository.remove((KIND, LEDGER, FROZEN), test_id)
            del self._entries[test_id]
            self._follow()

    def _follow(self) -> None:
        running = self._running()
        self._assigner = Assigner(running, random.Random())
        bound = {r for test in running for v in test.variants for r in v.optimization_rules}
        self._rules.set_testing(bound)

    # -- what is asked ----------------------------------------------------------------------

    @exposed
    async def all(self) -> dict[str, Any]:
        """Return every test in short, and how many are in which state."""
        entries = list(self._entries.values())
        states = [entry.experiment.status for entry in entries]
        counts = {f"{s}_tests": states.count(s) for s in (RUNNING, "completed", DRAFT, "stopped")}
        return (
            {"total_tests": len(entries)}
            | counts
            | {
                "paused_tests": states.count("paused"),
                "total_results": sum(map(_results, entries)),
                "active_users": sum(
                    len(t.ledger[v.id].units) for t in entries if t.experiment.status == RUNNING
                    for v in t.experiment.variants
                ),
                "tests": [_short(entry) for entry in entries],
            }
        )  # fmt: skip

    @exposed
    async def one(self, test_id: str) -> dict[str, Any]:
        """Return a test whole."""
        return self._shown(self._entry(test_id))

    @exposed
    async def assigned(self, test_id: str, user: str, endpoint: str) -> dict[str, Any] | None:
        """Return the variant that a user of a running test has at an endpoint, or None."""
        entry = self._entry(test_id)
        if entry.experiment not in self._assigner.matching(endpoint):
            return None
        variant = self._assigner.variant_of(entry.experiment, user)
        if variant is None:
            return None
        return {
            "id": variant.id,
            "name": variant.name,
            "is_control": variant.is_control,
            "optimization_rules": list(variant.optimization_rules),
        }

    @exposed
    async def statistics(self, test_id: str) -> dict[str, Any]:
        """Return the figures of each variant, of all that was measured so far."""
        return self._entry(test_id).ledger.statistics()

    @exposed
    async def analysis(self, test_id: str) -> dict[str, Any]:
        """Return what the measurements say; of those at the horizon, once it was reached."""
        entry = self._entry(test_id)
        ledger = entry.frozen or entry.ledger.copy()
        at_s = entry.frozen_at_s or self._repository.now_s
        return await asyncio.to_thread(analyse, entry.experiment, ledger, at_s)

    @exposed
    async def active_at(self, path: str) -> list[dict[str, Any]]:
        """Return the running tests about a path."""
        return [_short(self._entries[test.id]) for test in self._assigner.matching(path)]

    def _entry(self, test_id: str) -> _Entry:
        entry = self._entries.get(test_id)
        if entry is None:
            raise MonitorUnknown("A/B test", test_id)
        return entry

    def _shown(self, entry: _Entry) -> dict[str, Any]:
        test = entry.experiment
        body: dict[str, Any] = plain(test)
        times = {name: body.pop(f"{name}_s") for name in ("created_at", "updated_at")}
        started_s, ended_s = body.pop("started_at_s"), body.pop("ended_at_s")
        return (
            body
            | {name: utc(at_s).isoformat() for name, at_s in times.items()}
            | {
                "start_time": _iso(started_s),
                "end_time": _iso(ended_s),
                "results_count": _results(entry),
                "horizon_reached_at": _iso(entry.frozen_at_s),
            }
        )


def _results(entry: _Entry) -> int:
    return sum(entry.ledger[variant.id].requests for variant in entry.experiment.variants)


def _short(entry: _Entry) -> dict[str, Any]:
    test = entry.experiment
    return {
        "id": test.id,
        "name": test.name,
        "status": test.status,
        "variants_count": len(test.variants),
        "target_endpoints": list(test.target_endpoints),
        "start_time": _iso(test.started_at_s),
        "end_time": _iso(test.ended_at_s),
        "results_count": _results(entry),
    }


def _iso(at_s: float | None) -> str | None:
    return None if at_s is None else utc(at_s).isoformat()
