"""Alerts about the service: rules, what is told of them and to whom."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import orjson

from actors.monitor.alerting.alert import Happening, Resolved, ServiceAlert
from actors.monitor.alerting.engine import AlertEngine
from actors.monitor.alerting.history import shown
from actors.monitor.alerting.history import statistics as statistics_of
from actors.monitor.alerting.rules import DEFAULT_RULES, ServiceAlertRule, checked
from actors.monitor.channels import Channels, EmailServer, Target
from actors.monitor.checking import refusal
from actors.monitor.plain import plain, restored
from actors.monitor.reading import Reading
from actors.monitor.repository import MonitorRepository
from actors.runtime import exposed
from actors.turn import Turn
from infra.clock import utc
from infra.db.store import BATCH
from infra.db.unit import Unit
from infra.errors import MonitorUnknown, RangeInvalid, StoreError
from infra.messages import SERVICE_ALERT, Message
from infra.metrics import SERVICE_ALERTS
from infra.notify.notice import Notice
from infra.outbox import deliver_later

logger = logging.getLogger(__name__)

RULES, STATE, CHANNELS, ALERTS = "alert_rule", "alert_state", "alert_channels", "service_alert"
WATCH = "alert_watch"
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING}
_MOST_LATE = 100
_WRITTEN_WITHIN_S = 2.0  # else the answer, and the next reading, come before
_SEVERITIES = ("info", "warning", "error", "critical")

Tell = Callable[[Sequence[Message]], Awaitable[None]]


class AlertService:
    """State: hard, in the store. While that takes nothing, alerts are told by socket and log all
    the same; email and webhooks wait for it, the last hundred of them.

    Changes raise StoreError, RangeInvalid for a rule that cannot be, MonitorUnknown.
    """

    def __init__(
        self, repository: MonitorRepository, tell: Tell, operators: Sequence[Target], process: str
    ) -> None:
        self._repository = repository
        self._tell = tell
        self._operators = tuple(operators)
        self._process = process
        self._engine = AlertEngine()
        self._channels = Channels(self._operators)
        self._watches = True
        self._every_s = 30.0
        self._looked_s = float("-inf")
        self._turn = Turn()
        self._late: list[Happening] = []
        self._late_alerts: dict[str, ServiceAlert] = {}
        self._writing: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Take what the store remembers."""
        kept = await self._repository.all(RULES)
        rules = [rule for body in kept.values() if (rule := _rule(body)) is not None]
        self._engine = AlertEngine(rules if kept else DEFAULT_RULES)
        state = await self._repository.get(STATE)
        if state is not None:
            self._engine.restore(state["engine"])
        watch = await self._repository.get(WATCH) or state  # which had them, once
        if watch is not None and "watches" in watch:
            self._watches, self._every_s = watch["watches"], watch["every_s"]
        channels = await self._repository.get(CHANNELS)
        if channels is not None:
            self._channels = replace(restored(Channels, channels), operators=self._operators)

    # -- looking ----------------------------------------------------------------------------

    async def look(self, reading: Reading) -> None:
        """Hold a reading against the rules, every `check_interval` seconds."""
        now_s = self._repository.now_s
        if not self._watches or now_s - self._looked_s < self._every_s - 1.0:
            return
        self._looked_s = now_s
        await self._give(self._noted(self._engine.look(reading, now_s)))
        active = self._engine.active()
        for severity in _SEVERITIES:
            count = sum(alert.severity == severity for alert in active)
            SERVICE_ALERTS.labels(severity, self._process).set(count)

    async def say(self, name: str, severity: str, title: str, text: str) -> None:
        """Tell something that the monitor did or found, once: no rule, and nothing that lasts."""
        now_s = self._repository.now_s
        alert_id = f"{name}_{uuid.uuid4().hex[:12]}"
        alert = ServiceAlert(
            alert_id, name, title, text, severity, "", 0.0, 0.0, now_s, now_s, "told once"
        )
        logger.log(_LEVELS.get(severity, logging.ERROR), "service.told", extra={"what": text})
        await self._push("triggered", shown(alert))
        try:
            await self._repository.note(ALERTS, alert_id, plain(alert))
        except StoreError as error:
            logger.warning("service.not_in_history", extra={"reason": error.code})

    def _noted(self, told: Sequence[Happening]) -> Sequence[Happening]:
        """Take what the engine just did as what is to be written; return it."""
        self._late_alerts |= {alert.id: alert for alert in self._engine.changed}
        self._late = [*self._late, *told][-_MOST_LATE:]
        return told

    async def _give(self, told: Sequence[Happening]) -> None:
        """Log what happened and tell sockets of it, then write it: a slow store goes on alone."""
        for one in told:
            names = self._channels_of(one)
            if "log" in names:
                level = _LEVELS.get(one.alert.severity, logging.ERROR)
                extra = {"kind": one.kind, "rule": one.alert.rule_id, "what": one.text}
                logger.log(level, "service.alert", extra=extra)
            if "websocket" in names:
                await self._push(one.kind, shown(one.alert))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._keep_late())
        await asyncio.wait({self._writing}, timeout=_WRITTEN_WITHIN_S)

    async def _keep_late(self) -> None:
        """Write all that the store does not have yet; what it does not take, the next time."""
        try:
            while self._late_alerts or self._late:
                await self._keep_now()
        except StoreError as error:
            logger.warning("service.alerts_late", extra={"reason": error.code})

    async def _keep_now(self) -> None:
        """Write what the store does not have yet, and what is to be delivered, at once."""
        now = utc(self._repository.now_s)
        state = {"engine": self._engine.state()}
        alerts, told = dict(self._late_alerts), tuple(self._late)

        async def work(unit: Unit) -> None:
            await unit.documents.put(STATE, "", state, now)
            for alert in alerts.values():
                await unit.documents.put(ALERTS, alert.id, plain(alert), now)
            for one in told:
                targets = self._channels.targets(self._channels_of(one))
                await deliver_later(unit, _notice(one, now), targets, now)

        await self._repository.store.write(work, limit=BATCH)
        self._late_alerts = {i: a for i, a in self._late_alerts.items() if alerts.get(i) != a}
        self._late = [one for one in self._late if one not in told]

    def _channels_of(self, one: Happening) -> tuple[str, ...]:
        rules = {rule.id: rule for rule in self._engine.rules()}
        rule = rules.get(one.alert.rule_id)
        return ("websocket", "log") if rule is None else rule.channels

    async def _push(self, event: str, alert: dict[str, Any]) -> None:
        payload = orjson.dumps({"type": "service_alert", "event": event, "alert": alert})
        await self._tell([Message(SERVICE_ALERT, payload)])

    # -- what is asked ----------------------------------------------------------------------

    @exposed
    async def active(self) -> list[dict[str, Any]]:
        """Return the alerts that are not over."""
        return [shown(alert) for alert in self._engine.active()]

    @exposed
    async def history(self, hours: float) -> list[dict[str, Any]]:
        """Return the alerts that began in the last hours, the newest first; 1,000 at most."""
        return [shown(alert) for alert in await self._begun(hours)][:1_000]

    @exposed
    async def statistics(self, hours: float) -> dict[str, Any]:
        """Return counts of the last hours."""
        now_s = self._repository.now_s
        return statistics_of(await self._begun(hours), self._engine.active(), hours, now_s)

    async def _begun(self, hours: float) -> list[ServiceAlert]:
        since_s = self._repository.now_s - hours * 3_600
        kept = (await self._repository.all(ALERTS)).values()
        told = await self._repository.since(ALERTS, hours)
        found = [restored(ServiceAlert, body) for body in (*kept, *told)]
        recent = [alert for alert in found if alert.triggered_at_s >= since_s]
        return sorted(recent, key=lambda alert: -alert.triggered_at_s)

    @exposed
    async def rules(self) -> list[dict[str, Any]]:
        """Return all rules."""
        return [plain(rule) for rule in self._engine.rules()]

    @exposed
    async def put_rule(self, rule: ServiceAlertRule) -> None:
        """Add a rule, or put it in the place of the one of its id."""
        rule = checked(rule)
        async with self._turn:
            if (unset := self._channels.unset(rule.channels)) is not None:
                raise refusal("channels", unset)
            told = await self._put(rule)
        await self._give(told)

    @exposed
    async def enable_rule(self, rule_id: str, enabled: bool) -> None:
        """Let a rule count, or not."""
        async with self._turn:
            rule = next((rule for rule in self._engine.rules() if rule.id == rule_id), None)
            if rule is None:
                raise MonitorUnknown("alert rule", rule_id)
            told = await self._put(replace(rule, enabled=enabled))
        await self._give(told)

    async def _put(self, rule: ServiceAlertRule) -> Sequence[Happening]:
        await self._keep_rules([*self._engine.rules(), rule])
        return self._noted(self._engine.put(rule, self._repository.now_s))

    @exposed(once=True)
    async def remove_rule(self, rule_id: str) -> None:
        """Delete a rule; its alert ends."""
        async with self._turn:
            left = [rule for rule in self._engine.rules() if rule.id != rule_id]
            if len(left) == len(self._engine.rules()):
                raise MonitorUnknown("alert rule", rule_id)
            await self._keep_rules(left, removed=rule_id)
            told = self._noted(self._engine.remove(rule_id, self._repository.now_s))
        await self._give(told)

    async def _keep_rules(self, rules: Sequence[ServiceAlertRule], removed: str = "") -> None:
        """Write rules, a later one of an id in the place of the one before."""
        now = utc(self._repository.now_s)

        async def work(unit: Unit) -> None:
            for rule in rules:
                await unit.documents.put(RULES, rule.id, plain(rule), now)
            if removed:
                await unit.documents.remove(RULES, removed)

        await self._repository.store.write(work)

    @exposed
    async def acknowledge(self, alert_id: str) -> dict[str, Any]:
        """Note that somebody knows of an alert."""
        try:
            alert = self._engine.acknowledge(alert_id, self._repository.now_s)
        except KeyError:
            raise MonitorUnknown("active alert", alert_id) from None
        await self._give(self._noted([]))
        return shown(alert)

    @exposed
    async def watch(self, on: bool, every_s: float | None = None) -> None:
        """Look at rules, every so many seconds, or no more."""
        async with self._turn:
            every_s = self._every_s if every_s is None else every_s
            await self._repository.put(WATCH, "", {"watches": on, "every_s": every_s})
            self._watches, self._every_s = on, every_s

    @exposed
    async def set_email(self, body: dict[str, Any]) -> None:
        """Send email through this server from now on."""
        server = restored(EmailServer, body)
        async with self._turn:
            await self._set_channels(replace(self._channels, email=server))

    @exposed
    async def add_webhook(self, url: str) -> str:
        """Tell this URL too; return the secret that signs for it."""
        async with self._turn:
            await self._set_channels(self._channels.with_webhook(url))
            return self._channels.secret_of(url)

    @exposed(once=True)
    async def remove_webhook(self, url: str) -> None:
        """Tell this URL no more."""
        async with self._turn:
            try:
                changed = self._channels.without_webhook(url)
            except KeyError:
                raise MonitorUnknown("webhook", url) from None
            await self._set_channels(changed)

    async def _set_channels(self, channels: Channels) -> None:
        stored = replace(channels, operators=())  # those are the settings'
        await self._repository.put(CHANNELS, "", plain(stored))
        self._channels = channels

    @exposed
    async def config(self) -> dict[str, Any]:
        """Return how alerts are looked for, and who is told; no secrets."""
        rules = self._engine.rules()
        return {
            "monitoring_status": "running" if self._watches else "stopped",
            "check_interval": self._every_s,
            "total_rules": len(rules),
            "enabled_rules": sum(rule.enabled for rule in rules),
            "active_alerts": len(self._engine.active()),
        } | self._channels.shown()


def _rule(body: dict[str, Any]) -> ServiceAlertRule | None:
    try:
        return checked(restored(ServiceAlertRule, body))
    except (RangeInvalid, ValueError) as error:  # of a former version
        logger.warning("service.rule_unread", extra={"rule": body.get("id"), "why": str(error)})
        return None


def _notice(one: Happening, now: Any) -> Notice:
    ended = isinstance(one, Resolved)
    title = f"{'Over: ' if ended else ''}{one.alert.title}"
    severity = "info" if ended else one.alert.severity
    facts = {"event": one.kind} | plain(one.alert)
    return Notice(one.notice_id, "service_alert", title, one.text, severity, now, facts)
