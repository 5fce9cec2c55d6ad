"""The monitor as an actor: looks at the service, and lets processes know what is to change."""

from __future__ import annotations

import asyncio
import logging
import platform
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from actors.hub.client import HubClient
from actors.monitor.alert_service import ALERTS, AlertService
from actors.monitor.experiment_service import ExperimentService
from actors.monitor.machine import MachineWatch
from actors.monitor.performance_service import DAY_H, READING, PerformanceService
from actors.monitor.repository import MonitorRepository
from actors.monitor.rule_service import RuleService
from actors.monitor.tuning_service import TuningService
from actors.reporting import report_metrics
from actors.runtime import ServiceActor, exposed
from actors.telemetry.client import TelemetryClient
from actors.turn import Turn
from infra.clock import SystemClock
from infra.db.store import open_store
from infra.directives import Directives
from infra.errors import ActorUnavailable, FinstageError, StoreError, StoreUnavailable
from infra.messages import Message
from infra.metrics import APP_INFO
from infra.settings import Settings
from infra.sources.facts import source_facts

logger = logging.getLogger(__name__)

_ASK_AGAIN_S = 1.0
_SEND_EVERY_S = 2.0
_LEVEL, _WATCHES = "log_level", "watches"
_FORGET_EVERY_S = 3_600.0


class MonitorActor(ServiceActor):
    """Readings, alerts about the service, optimisation rules, tuning and A/B tests.

    State: hard, in the store: rules, alerts, tests, decisions, a day of readings. Nothing waits
    for it: while it is away, or the store is, the service goes on as it was last told.
    """

    role = "monitor"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._clock = SystemClock()
        repository = MonitorRepository(open_store(settings, self._clock), self._clock)
        self._repository = repository
        self._telemetry = TelemetryClient(settings.actor_wait_s)
        self._hub = HubClient(settings.actor_wait_s)
        secret = settings.notify_secret.get_secret_value()
        operators = tuple((target, secret) for target in settings.targets)
        self._performance = PerformanceService(repository, self._tell_one, self.process)
        self._alerts = AlertService(repository, self._tell, operators, self.process)
        self._rules = RuleService(
            repository, self._performance.fine, self._direct, self._alerts.say, self.process
        )
        self._experiments = ExperimentService(repository, self._rules, self._direct)
        self._tuning = TuningService(
            repository,
            settings,
            self._performance,
            self._rules,
            self._direct,
            self._alerts.say,
            self._shed,
        )
        self._services = {
            "performance": self._performance,
            "alerts": self._alerts,
            "rules": self._rules,
            "experiments": self._experiments,
            "tuning": self._tuning,
            "": self,
        }
        self._turn = Turn()
        self._level = ""
        self._watches = True
        self._loaded = asyncio.Event()
        self._run_id = uuid.uuid4().hex[:8]
        self._number = 0
        self._now = Directives()
        APP_INFO.labels(
            version("finstage"), source_facts(settings).name, platform.python_version(),
            self.process,
        ).set(1)  # fmt: skip
        self._machine = MachineWatch(settings.data_dir)
        self.keep(self._run())
        self.keep(self._send())
        self.keep(self._forget())
        self.keep(report_metrics(self.process, self._telemetry))

    # -- looking ----------------------------------------------------------------------------

    async def _run(self) -> None:
        await self._load()
        while True:
            try:
                if self._watches:
                    await self._look()
            except (StoreError, ActorUnavailable) as error:
                logger.info("monitor.waiting", extra={"reason": error.code})
            await asyncio.sleep(self.settings.monitor_s)

    async def _load(self) -> None:
        while True:
            try:
                for service in (self._performance, self._alerts, self._rules, self._experiments,
                             self._tuning):  # fmt: skip
                    await service.load()
                self._level = await self._repository.get(_LEVEL) or ""
                self._watches = await self._repository.get(_WATCHES) is not False
                break
            except StoreError as error:
                logger.info("monitor.starting", extra={"reason": error.code})
                await asyncio.sleep(_ASK_AGAIN_S)
        self._loaded.set()
        await self._direct()

    async def _look(self) -> None:
        families = await self._telemetry.metrics("finstage_")
        machine = await asyncio.to_thread(self._machine.look)
        reading, findings = await self._performance.take(families, machine)
        if reading is not None:
            await self._alerts.look(reading)
            await self._rules.look()
        for one in findings:
            await self._alerts.say(one.name, one.severity, one.name.replace("_", " "), one.message)
        await self._tuning.look()
        await self._experiments.keep()
        await self._performance.keep()

    async def _forget(self) -> None:
        while True:
            await asyncio.sleep(_FORGET_EVERY_S)
            try:
                await self._repository.forget((READING,), 2 * DAY_H)
                days = self.settings.keep_service_alerts_days
                await self._repository.forget((ALERTS,), 24.0 * days)
                await self._repository.forget_documents(ALERTS, 24.0 * days)
            except StoreError as error:
                logger.info("monitor.not_forgotten", extra={"reason": error.code})

    # -- telling ----------------------------------------------------------------------------

    async def _tell(self, messages: Sequence[Message]) -> None:
        try:
            await self._hub.publish(messages)
        except ActorUnavailable:
            logger.info("monitor.untold", extra={"messages": len(messages)})

    async def _tell_one(self, message: Message) -> None:
        await self._tell([message])

    async def _direct(self) -> None:
        """Make what processes are to do of all decisions, and hand it out."""
        if not self._loaded.is_set():
            return
        self._number += 1
        knobs = self._tuning.knobs
        self._now = Directives(
            number=f"{self._run_id}-{self._number}",
            watches=self._watches,
            off=self._rules.off,
            log_level=self._level,
            cache_share=knobs.cache_share,
            ttl_factor=knobs.ttl_factor,
            batch_ms=self._tuning.changed_batch_ms,
            task_at_once=self._tuning.changed_tasks,
            experiments=self._experiments.running(),
            prefetch=tuple(knobs.prefetch),
        )
        try:
            await self._telemetry.direct(self._now)
        except ActorUnavailable:
            logger.info("monitor.undirected")  # it is sent again

    async def _shed(self) -> None:
        await self._telemetry.order("shed", None, False)

    async def _send(self) -> None:
        """Let a CacheActor that restarted know what is to be done."""
        await self._loaded.wait()
        while True:
            await asyncio.sleep(_SEND_EVERY_S)
            try:
                await self._telemetry.direct(self._now)
            except FinstageError as error:
                logger.info("monitor.undirected", extra={"reason": error.code})

    # -- what is asked ----------------------------------------------------------------------

    def parts(self) -> Mapping[str, Any]:
        """Return the services by name."""
        return self._services

    def _method(self, name: str) -> Callable[..., Awaitable[Any]]:
        if not self._loaded.is_set():
            raise StoreUnavailable("the monitor has not read the store yet; try again")
        return super()._method(name)

    @exposed
    async def set_log_level(self, level: str) -> str:
        """Let every process log from this level; empty is the configured one."""
        async with self._turn:
            await self._repository.put(_LEVEL, "", level)
            self._level = level
        await self._direct()
        return level

    @exposed
    async def watch(self, on: bool) -> None:
        """Look at the service, or no more: no readings, alerts, judgements or tuning."""
        async with self._turn:
            await self._repository.put(_WATCHES, "", on)
            self._watches = on
        await self._direct()

    @exposed
    async def log_level(self) -> dict[str, str]:
        """Return the level in force, and the configured one."""
        configured = self.settings.log_level
        return {"level": self._level or configured, "configured": configured}

    @exposed
    async def directives(self) -> dict[str, Any]:
        """Return what processes are told."""
        now = self._now
        return asdict(now) | {
            "off": sorted(now.off),
            "experiments": [test["id"] for test in now.experiments],
            "prefetch": list(now.prefetch),
        }
