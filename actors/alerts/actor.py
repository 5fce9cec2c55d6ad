"""The alert engine as an actor: prices in, alerts into the store, from there to the hub."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from importlib.metadata import version
from itertools import islice
from typing import Any

from actors.alerts.firing import Pending, give, message_of
from actors.alerts.intake import AlertIntake
from actors.alerts.price_alerts import Key, LastFired, PriceAlerts
from actors.alerts.rule_changes import RuleChanges
from actors.alerts.rules import reference_of
from actors.alerts.system import ServiceEvent, SystemWatch, service_alert
from actors.alerts.user_rules import UserRule, UserRules
from actors.feed.client import FeedClient
from actors.hub.client import HubClient, HubReader
from actors.indicators.client import IndicatorClient, LiveWant
from actors.reporting import report_metrics
from actors.runtime import ActorClient, ServiceActor, exposed
from actors.telemetry.client import TelemetryClient
from infra.clock import SystemClock, utc
from infra.db.alert_rules import StoredRule
from infra.db.alerts import Alert, AlertState
from infra.db.store import BATCH, open_store
from infra.db.unit import Unit
from infra.errors import (
    ActorUnavailable,
    FinstageError,
    StoreBusy,
    StoreError,
    StoreUnsure,
)
from infra.metrics import ALERTS_GIVEN
from infra.notify.channels import AnySender, ChannelSender
from infra.notify.webhook import WebhookSender
from infra.outbox import Courier
from infra.settings import Settings
from infra.sources.base import Lane
from infra.sources.facts import source_facts
from infra.sources.runs import Run, present_run
from infra.universe import load_universe

logger = logging.getLogger(__name__)

_PATIENCE = 10  # times the hub's batch: an alert is a write in any case
_PAUSE_S = 0.5  # before what failed is tried again
_LOOK_EVERY_S = 2.0
_SOURCE_EVERY_S = 15.0
_REFERENCES_AT_ONCE = 20  # they may come from upstream, a request each
_AT_ONCE = 200  # symbols asked for at one time, alerts told at one time
TOLD_AGAIN = timedelta(hours=1)  # alerts of so long are told again to a hub that forgot them


class AlertActor(ServiceActor):
    """Price alerts.

    State: hard, in the store: alerts, and when each was last given. Delivery: an alert is in the
    store before it is told; it is told in the order of its number, by which readers know those
    that come again. A hub that restarted is told the last hour again, and nothing before. While
    the store is away alerts wait here, and are lost with the process; prices never wait.
    """

    role = "alerts"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._clock = SystemClock()
        self._source = source_facts(settings)
        self._store = open_store(settings, self._clock)
        self._hub = HubClient(settings.actor_wait_s)
        self._indicators = IndicatorClient(settings.actor_wait_s)
        self._price_alerts = PriceAlerts(
            load_universe(settings.thresholds_file).thresholds,
            settings.surge_pct,
            settings.surge_window_s,
            lambda iso: datetime.fromisoformat(iso).timestamp(),
        )
        self._rules = UserRules()
        self._changes = RuleChanges(
            self._store, self._rules, self._indicators.live_condition, self._check_symbols
        )
        self._feed = FeedClient(settings.actor_wait_s)
        self._sender = WebhookSender(
            self._clock, f"Finstage/{version('finstage')}", settings.notify_timeout_s,
            settings.notify_private,
        )  # fmt: skip
        channels = ChannelSender(settings.notify_timeout_s, settings.notify_private)
        sender = AnySender(self._sender, channels)
        self._courier = Courier(self._store, sender, self._clock)
        secret = settings.notify_secret.get_secret_value()
        operators = [(target, secret) for target in settings.targets]
        self._intake = AlertIntake(self._price_alerts, self._rules, self._clock, operators)
        self._system = SystemWatch()
        self._giving = asyncio.Lock()  # one at a time: numbers become visible in their order
        self._part = _AT_ONCE  # alerts given in one transaction
        self.keep(self._run())
        self.keep(self._read_references())
        self.keep(self._renew())
        self.keep(self._settle())
        self.keep(self._bring())
        self.keep(self._watch_service())
        self.keep(report_metrics(self.process, TelemetryClient()))

    async def _read_references(self) -> None:
        while True:
            await self._intake.reading.wait()
            self._intake.reading.clear()
            while self._intake.wanted:
                symbols = list(self._intake.wanted)[:_REFERENCES_AT_ONCE]
                try:
                    answers = await self._indicators.references(symbols, Lane.BACKGROUND)
                except FinstageError as error:
                    logger.info("alerts.references_unread", extra={"reason": error.code})
                    await asyncio.sleep(_PAUSE_S)
                    continue
                for symbol in symbols:
                    self._intake.wanted.pop(symbol, None)
                    answer = answers.get(symbol)
                    if isinstance(answer, dict):
                        self._price_alerts.hold(symbol, reference_of(answer))

    # -- the service itself -----------------------------------------------------------------

    async def _watch_service(self) -> None:
        """Look at the other parts for as long as this one lives."""
        asked_source_s = 0.0
        while True:
            now_s = self._clock.time_s()
            events: list[ServiceEvent] = []
            for part, client in (("feed", self._feed), ("indicators", self._indicators),
                                 ("hub", self._hub)):  # fmt: skip
                events += await self._look_at(part, client, now_s)
            events += await self._look_at_store(now_s)
            if self._source.is_open and now_s - asked_source_s >= _SOURCE_EVERY_S:
                asked_source_s = now_s
                events += await self._look_at_source(now_s)
            facts = (self._source.name, self._source.synthetic, now_s)
            told = [self._intake.for_operators(service_alert(one, *facts)) for one in events]
            self._intake.add(told)
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _look_at(self, part: str, client: ActorClient, now_s: float) -> list[ServiceEvent]:
        try:
            pid = await client.ping()
        except ActorUnavailable as error:
            return list(self._system.bad(part, error.message, now_s))
        restarted = list(self._system.process(part, str(pid), now_s))
        return restarted + list(self._system.good(part, now_s))

    async def _look_at_store(self, now_s: float) -> list[ServiceEvent]:
        try:
            await self._store.ping()
        except StoreError as error:
            return list(self._system.bad("store", error.message, now_s))
        return list(self._system.good("store", now_s))

    async def _look_at_source(self, now_s: float) -> list[ServiceEvent]:
        try:
            trouble = await self._feed.trouble()
        except ActorUnavailable:  # which is told of as the feed's
            return []
        if trouble is not None:
            return list(self._system.bad("source", trouble.text, now_s))
        return list(self._system.good("source", now_s))

    # -- giving alerts ----------------------------------------------------------------------

    async def _run(self) -> None:
        await self._remember()
        self.keep(HubReader(self._hub, self._intake, _PATIENCE).run())
        while True:
            await self._intake.work.wait()
            self._intake.work.clear()
            try:
                async with self._giving:
                    await self._give()
                try:
                    await self._note_rearmed()
                finally:  # a store that is full can be read all the same
                    await self._tell()
            except (StoreError, ActorUnavailable) as error:
                logger.warning("alerts.waiting", extra={"reason": error.code})
                await asyncio.sleep(_PAUSE_S)
                self._intake.work.set()

    async def _remember(self) -> None:
        """Know what was given before, and the rules; without that nothing is given."""
        while True:
            try:
                await self._changes.load()
                states = await self._states()
            except (StoreError, ActorUnavailable) as error:
                logger.info("alerts.starting", extra={"reason": error.code})
                await asyncio.sleep(_PAUSE_S)
                continue
            self._price_alerts.remember(map(_last_fired, states))
            return

    async def _states(self) -> list[AlertState]:
        run = self._present_run()
        kept = await self._store.read(lambda unit: unit.alerts.states(run.source))
        states = [s for s in kept if run.began_at is None or s.fired_at >= run.began_at]
        for state in states:
            fired_s = state.fired_at.timestamp()
            self._rules.remember(state.rule_id, state.symbol, fired_s, state.is_armed)
        return states

    async def _renew(self) -> None:
        """Let the ticks and live values go on that rules look at."""
        while True:
            try:
                if self._rules.symbols and self._source.is_open:
                    await self._feed.want(self._rules.symbols)
                if wants := self._rules.wants:
                    await self._indicators.want_live(wants)
            except FinstageError as error:
                logger.info("alerts.unrenewed", extra={"reason": error.code})
            await asyncio.sleep(min(self.settings.live_grace_s, self.settings.interest_s) / 12)

    async def _settle(self) -> None:
        """Follow a change of a rule whose answer from the store was lost."""
        while True:
            try:
                await self._changes.settle()
            except StoreError as error:
                logger.info("alerts.unsettled", extra={"reason": error.code})
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _bring(self) -> None:
        """Send what goes outside."""
        async with self._sender:
            await self._courier.run()

    async def _give(self) -> list[Pending]:
        """Put what waits into the store, and return what is there now. For who has `_giving`.

        A part that the store cannot take in its time is a smaller one at the next try: a database
        that is far away answers each of its statements.
        """
        waiting = self._intake.waiting
        given: list[Pending] = []
        while waiting:
            part = waiting[: self._part]
            try:
                given += await self._give_part(part)
            except (StoreBusy, StoreUnsure):
                self._part = max(1, len(part) // 2)
                raise
            del waiting[: len(part)]
            self._part = min(_AT_ONCE, 2 * self._part)
        return given

    async def _give_part(self, pending: Sequence[Pending]) -> list[Pending]:
        """Put alerts into the store, all or none; return those that were not given lately."""
        run = self._present_run()

        async def work(unit: Unit) -> list[int | AlertState]:
            return [await give(unit, one, run) for one in pending]

        found = await self._store.write(work, limit=BATCH)
        given = []
        for one, answer in zip(pending, found, strict=True):
            if isinstance(answer, AlertState):
                self._on_refused(one, answer)
                continue
            given.append(one)
            ALERTS_GIVEN.labels(one.alert.alert_type).inc()
            if one.rule is not None:
                self._rules.on_given(one.rule)
        if any(one.targets for one in given):
            self._courier.wake()
        return given

    def _on_refused(self, pending: Pending, state: AlertState) -> None:
        """Remember what the store does, which gave such an alert lately."""
        if pending.rule is None:
            self._price_alerts.remember([_last_fired(state)])
        else:
            self._rules.on_refused(pending.rule, state.symbol, state.fired_at.timestamp())

    async def _note_rearmed(self) -> None:
        """Let the store know which rules are armed again, once it has the alerts before that."""
        source, rearmed = self._source.name, self._rules.rearmed
        while not self._intake.waiting and (part := list(islice(rearmed, _AT_ONCE))):
            rearmed.difference_update(part)  # first: one may fire and be armed again meanwhile

            async def work(unit: Unit, part: list[tuple[str, str]] = part) -> None:
                for rule_id, symbol in part:
                    await unit.alerts.rearm(source, rule_id, symbol)

            try:
                await self._store.write(work, limit=BATCH)
            except StoreError:
                rearmed.update(pair for pair in part if self._rules.is_armed(*pair))
                raise

    async def _tell(self) -> None:
        """Tell the hub what the store has past what it was told, in order."""
        intake = self._intake
        epoch, told = intake.epoch, intake.told
        if not epoch:
            return  # what this hub has is not known yet; its snapshot brings us here again
        if told is None:
            told = await self._before(utc(self._clock.time_s()) - TOLD_AGAIN)
        while epoch == intake.epoch:
            intake.told = told
            found = await self._after(told)
            if not found:
                return
            await self._hub.publish([message_of(number, alert) for number, alert in found])
            for number, alert in found:
                logger.info("alert.told", extra={"alert_id": number, "told": alert.message})
            told = found[-1][0]

    def _present_run(self) -> Run:
        return present_run(self._source.name, self.settings, self._clock.time_s())

    async def _after(self, number: int) -> list[tuple[int, Alert]]:
        run = self._present_run()
        return await self._store.read(lambda unit: unit.alerts.after(number, _AT_ONCE, run=run))

    async def _before(self, at: datetime) -> int:
        """Return the number of the last alert before an instant."""
        run = self._present_run()
        recent = await self._store.read(lambda unit: unit.alerts.since(at, 1_000, run=run))
        if recent:
            return min(number for number, _ in recent) - 1
        return await self._store.read(lambda unit: unit.alerts.newest())

    @exposed
    async def add_rule(self, rule: StoredRule, most: int) -> None:
        """Keep a rule, in the store before this returns, and follow it from now on, armed."""
        await self._changes.add(rule, most)

    @exposed
    async def change_rule(self, rule: StoredRule) -> None:
        """Put a rule in the place of the one of its id, armed."""
        await self._changes.change(rule)

    @exposed
    async def enable_rule(self, rule_id: str, enabled: bool, at: datetime) -> StoredRule:
        """Let a rule count, armed, or not; return it."""
        return await self._changes.enable(rule_id, enabled, at)

    async def _check_symbols(self, rule: UserRule) -> None:
        """Ask for what a rule looks at; raises why it cannot be had."""
        symbols = rule.stored.symbols
        refused = dict(await self._feed.want(symbols))
        for error in refused.values():
            raise error
        if rule.condition.indicators:
            interval, indicators = rule.stored.interval, rule.condition.indicators
            wants = [LiveWant(s, interval, indicators) for s in symbols]
            for error in (await self._indicators.want_live(wants)).values():
                raise error

    @exposed(once=True)
    async def remove_rule(self, rule_id: str) -> bool:
        """Delete a rule; False if there is none of this id."""
        return await self._changes.remove(rule_id)

    @exposed
    async def check(self, updates: Sequence[dict[str, Any]]) -> int:
        """Hold prices against the rules; return how many alerts they gave.

        Raises StoreError: then the alerts wait, as others do.
        """
        updates = [u for u in updates if self._intake.is_of_run(u)]
        needed = [u["symbol"] for u in updates if self._price_alerts.needs(u)]
        if needed:
            answers = await self._indicators.references(needed, Lane.BACKGROUND)
            for symbol, answer in answers.items():
                if isinstance(answer, dict):
                    self._price_alerts.hold(symbol, reference_of(answer))
        now_s = self._clock.time_s()
        due = [one for update in updates for one in self._price_alerts.on_price(update, now_s)]
        async with self._giving:
            own = {id(one) for one in self._intake.add_due(due, now_s)}
            given = await self._give()
        return sum(id(one) in own for one in given)


def _last_fired(state: AlertState) -> tuple[Key, LastFired]:
    return (state.symbol, state.rule_id), LastFired(state.fired_at.timestamp(), state.session)
