"""The alert engine as an actor: prices in, alerts into the store, from there to the hub."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson

from actors.alerts.core import AlertBook, Due, Given
from actors.alerts.rules import RULES, Reference
from actors.cache.client import CacheClient
from actors.hub.client import HubClient, HubReader
from actors.indicators.client import IndicatorClient
from actors.runtime import ServiceActor, exposed, report_metrics
from infra.clock import SystemClock, utc
from infra.db.alerts import Alert
from infra.db.store import open_store
from infra.db.unit import Unit
from infra.errors import ActorUnavailable, FinstageError, StoreError
from infra.messages import ACTIONS, ALERTS, DATA, PRICES, Batch, Message, Snapshot
from infra.metrics import ALERTS_GIVEN
from infra.settings import Settings
from infra.sources.facts import source_facts
from infra.universe import load_universe

logger = logging.getLogger(__name__)

_PATIENCE = 4  # times the hub's batch
_PAUSE_S = 0.5  # before what failed is tried again
_MOST_WAITING = 10_000  # alerts, while the store is away
_AT_ONCE = 200  # symbols asked for at one time, alerts told at one time
TOLD_AGAIN = timedelta(hours=1)  # alerts of so long are told again to a hub that forgot them


class AlertActor(ServiceActor):
    """Price alerts.

    State: hard, in the store: alerts, and when each was last given. Delivery: an alert is in the
    store before it is told; it is told at least once, in the order of its number, by which readers
    know those that come again. While the store is away alerts wait here, and are lost with the
    process; prices never wait.
    """

    role = "alerts"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._clock = SystemClock()
        self._source = source_facts(settings)
        self._store = open_store(settings, self._clock)
        self._hub = HubClient(settings.actor_wait_s)
        self._indicators = IndicatorClient(settings.actor_wait_s)
        self._book = AlertBook(
            load_universe().thresholds,
            settings.surge_pct,
            settings.surge_window_s,
            lambda iso: datetime.fromisoformat(iso).timestamp(),
        )
        self._wanted: dict[str, None] = {}  # symbols whose references are to be asked for
        self._asked_s: dict[str, float] = {}
        self._waiting: list[Due] = []
        self._epoch = ""
        self._told: int | None = None  # the last alert that the hub was told of
        self._work = asyncio.Event()
        self._reading = asyncio.Event()
        self.keep(self._run())
        self.keep(self._read_references())
        self.keep(report_metrics(self.process, CacheClient().report_metrics))

    # -- following the hub ------------------------------------------------------------------

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Take the last prices; a hub that forgot what it was told is told again."""
        if snapshot.position.epoch != self._epoch:
            self._epoch = snapshot.position.epoch
            self._told = None
            self._work.set()
        for _, message in snapshot.messages:
            self._on_message(message)

    def on_batch(self, batch: Batch) -> None:
        """Hold each price against the rules."""
        for message in batch.messages:
            self._on_message(message)

    def _on_message(self, message: Message) -> None:
        topic = message.topic
        if topic.startswith(PRICES):
            self._on_price(orjson.loads(message.payload))
        elif topic.startswith(ACTIONS):
            self._book.let_go(topic.removeprefix(ACTIONS))
        elif topic.startswith(DATA):
            self._asked_s.pop(topic.removeprefix(DATA), None)

    def _on_price(self, update: dict[str, Any]) -> None:
        if self._book.needs(update):
            self._want(update["symbol"])
        if due := self._book.on_price(update, self._clock.time_s()):
            room = _MOST_WAITING - len(self._waiting)
            self._waiting += due[:room]
            for one in due[room:]:
                self._book.undo(one)
            self._work.set()

    def _want(self, symbol: str) -> None:
        """Ask for references, of one symbol not more often than every other second."""
        now_s = time.monotonic()
        if now_s - self._asked_s.get(symbol, -_PAUSE_S * 4) >= _PAUSE_S * 4:
            self._asked_s[symbol] = now_s
            self._wanted[symbol] = None
            self._reading.set()

    async def _read_references(self) -> None:
        while True:
            await self._reading.wait()
            self._reading.clear()
            while self._wanted:
                symbols = list(self._wanted)[:_AT_ONCE]
                try:
                    answers = await self._indicators.references(symbols)
                except FinstageError as error:
                    logger.info("alerts.references_unread", extra={"reason": error.code})
                    await asyncio.sleep(_PAUSE_S)
                    continue
                for symbol in symbols:
                    self._wanted.pop(symbol, None)
                    answer = answers.get(symbol)
                    if isinstance(answer, dict):
                        self._book.hold(symbol, _reference(answer))

    # -- giving alerts ----------------------------------------------------------------------

    async def _run(self) -> None:
        await self._remember()
        self.keep(HubReader(self._hub, self, _PATIENCE).run())
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                await self._give_waiting()
                await self._tell()
            except (StoreError, ActorUnavailable) as error:
                logger.warning("alerts.waiting", extra={"reason": error.code})
                await asyncio.sleep(_PAUSE_S)
                self._work.set()

    async def _remember(self) -> None:
        """Know what was given before; without that nothing is."""
        while True:
            try:
                states = await self._store.read(lambda unit: unit.alerts.states(self._source.name))
            except StoreError as error:
                logger.info("alerts.store_away", extra={"reason": error.code})
                await asyncio.sleep(_PAUSE_S)
                continue
            given = [
                ((s.symbol, s.rule_id), Given(s.fired_at.timestamp(), s.session)) for s in states
            ]
            self._book.remember(given)
            return

    async def _give_waiting(self) -> None:
        while self._waiting:
            chunk = self._waiting[:_AT_ONCE]
            await self._give(chunk)
            del self._waiting[: len(chunk)]

    async def _give(self, due: Sequence[Due]) -> int:
        """Put alerts into the store; return how many were not there already."""
        now = utc(self._clock.time_s())

        async def work(unit: Unit) -> int:
            return sum([await _give_one(unit, one, now) for one in due])

        given = await self._store.write(work)
        for one in due:
            ALERTS_GIVEN.labels(one.found.alert_type).inc()
        return given

    async def _tell(self) -> None:
        """Tell the hub what the store has past what it was told, in order."""
        if self._told is None:
            self._told = await self._before(utc(self._clock.time_s()) - TOLD_AGAIN)
        epoch = self._epoch
        while epoch == self._epoch:
            found = await self._after(self._told)
            if not found:
                return
            await self._hub.publish([_message(number, alert) for number, alert in found])
            for number, alert in found:
                logger.info("alert.told", extra={"alert_id": number, "told": alert.message})
            if epoch == self._epoch:
                self._told = found[-1][0]

    async def _after(self, number: int) -> list[tuple[int, Alert]]:
        return await self._store.read(lambda unit: unit.alerts.after(number, _AT_ONCE))

    async def _before(self, at: datetime) -> int:
        """Return the number of the last alert before an instant."""
        recent = await self._store.read(lambda unit: unit.alerts.since(at, 1_000))
        if recent:
            return min(number for number, _ in recent) - 1
        return await self._store.read(lambda unit: unit.alerts.newest())

    @exposed
    async def check(self, updates: Sequence[dict[str, Any]]) -> int:
        """Hold prices against the rules; return how many alerts they gave."""
        needed = [u["symbol"] for u in updates if self._book.needs(u)]
        if needed:
            answers = await self._indicators.references(needed)
            for symbol, answer in answers.items():
                if isinstance(answer, dict):
                    self._book.hold(symbol, _reference(answer))
        now_s = self._clock.time_s()
        due = [one for update in updates for one in self._book.on_price(update, now_s)]
        try:
            given = await self._give(due) if due else 0
        except StoreError:
            for one in due:
                self._book.undo(one)
            raise
        self._work.set()
        return given


async def _give_one(unit: Unit, due: Due, now: datetime) -> bool:
    rule = RULES[due.found.alert_type]
    cool_down = timedelta(seconds=rule.cool_down_s)
    return await unit.alerts.give(_alert(due, now), due.session, cool_down, rule.once_a_session)


def _alert(due: Due, now: datetime) -> Alert:
    found = due.found
    return Alert(
        rule_id=found.alert_type,
        symbol=due.symbol,
        alert_type=found.alert_type,
        base_type=found.base_type,
        base_price=found.base,
        current_price=due.price,
        threshold_percent=found.threshold,
        actual_percent=found.percent,
        severity=found.severity,
        message=found.message,
        source=due.source,
        synthetic=due.synthetic,
        traded_at=datetime.fromisoformat(due.traded_at),
        triggered_at=now,
    )


def _message(number: int, alert: Alert) -> Message:
    body = {
        "type": "alert",
        "alert_id": number,
        "rule_id": alert.rule_id,
        "symbol": alert.symbol,
        "alert_type": alert.alert_type,
        "base_type": alert.base_type,
        "message": alert.message,
        "current_price": alert.current_price,
        "threshold_value": alert.threshold_percent,
        "actual_percent": alert.actual_percent,
        "base_price": alert.base_price,
        "severity": alert.severity,
        "timestamp": alert.traded_at,
        "triggered_at": alert.triggered_at,
        "source": alert.source,
        "synthetic": alert.synthetic,
    }
    return Message(f"{ALERTS}{alert.symbol}:{alert.alert_type}", orjson.dumps(body))


def _reference(answer: dict[str, Any]) -> Reference:
    return Reference(
        session=answer["previous_session"],
        previous_close=answer["previous_close"],
        previous_high=answer["previous_high"],
        previous_low=answer["previous_low"],
        all_time_high=answer["all_time_high"],
        all_time_low=answer["all_time_low"],
    )
