"""From what the hub tells to alerts that wait for the store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from actors.alerts.firing import Pending, of_price, of_rule
from actors.alerts.price_alerts import Due, PriceAlerts
from actors.alerts.user_rules import UserRules
from infra.clock import Clock
from infra.messages import ACTIONS, DATA, Batch, Kind, Message, Snapshot, body_of, hand
from infra.sources.runs import RunWatch

_MOST_WAITING = 10_000  # alerts, while the store is away
_ASKED_EVERY_S = 2.0  # for references of one symbol


class AlertIntake:
    """Holds every price and live value against the rules. State: soft.

    `work` is set when there is something to give, note or tell, `reading` when references are
    wanted.
    `told` is the number of the last alert that the hub was told of, None where it has none.
    `operators` are who is told of built-in alerts, each with the secret that signs for it.
    """

    def __init__(
        self,
        book: PriceAlerts,
        rules: UserRules,
        clock: Clock,
        operators: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.waiting: list[Pending] = []
        self.wanted: dict[str, None] = {}  # symbols whose references are to be asked for
        self.epoch = ""
        self.told: int | None = None
        self.work = asyncio.Event()
        self.reading = asyncio.Event()
        self._price_alerts = book
        self._rules = rules
        self._clock = clock
        self._operators = tuple(operators)
        self._asked_s: dict[str, float] = {}
        self._runs = RunWatch()

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Take the last prices; a hub that forgot what it was told is told again.

        One that remembers is not, though this process is new: alerts are told in the order of
        their numbers, so the highest that the hub has is the last. That says nothing of a hub
        that restarted meanwhile: what was on its way may have come there before all else.
        """
        if snapshot.position.epoch != self.epoch:
            is_first = not self.epoch
            self.epoch, self.told = snapshot.position.epoch, None
            if is_first:
                for _, message in snapshot.messages:
                    hand(message, self._note_told)
            self.work.set()
        self._take_all(message for _, message in snapshot.messages)

    def on_batch(self, batch: Batch) -> None:
        """Hold each price against the rules."""
        self._take_all(batch.messages)

    def add(self, pending: Sequence[Pending]) -> None:
        """Let alerts wait for the store."""
        if pending:
            self.waiting += pending
            self.work.set()

    def add_due(self, due: Sequence[Due], now_s: float) -> list[Pending]:
        """Let built-in alerts wait and return them; those without room come again."""
        room = self._room
        for one in due[room:]:  # the store is away for long
            self._price_alerts.undo(one)
        pending = [self.for_operators(of_price(one, now_s)) for one in due[:room]]
        self.add(pending)
        return pending

    def for_operators(self, pending: Pending) -> Pending:
        """Return an alert that goes to the operator's targets too."""
        return replace(pending, targets=self._operators)

    def is_of_run(self, update: dict[str, Any]) -> bool:
        """Return whether a price is of the source's present run; a new one finds nothing given."""
        found = self._runs.take(update["data_version"])
        if found == "new":
            self._price_alerts.start_over()
            self._rules.start_over()
        return found != "over"

    def _note_told(self, kind: Kind, message: Message) -> None:
        if kind is Kind.ALERTS:
            self.told = max(self.told or 0, body_of(message)["alert_id"])

    def _take_all(self, messages: Iterable[Message]) -> None:
        for message in messages:
            hand(message, self._take)
        if self._rules.rearmed:  # which the store is to know
            self.work.set()

    def _take(self, kind: Kind, message: Message) -> None:
        if kind is Kind.PRICES:
            self._take_price(body_of(message))
        elif kind is Kind.TECHNICAL and len(self._rules):
            self._take_live(body_of(message))
        elif kind is Kind.ACTIONS:
            self._price_alerts.let_go(message.topic.removeprefix(ACTIONS))
        elif kind is Kind.DATA:
            self._asked_s.pop(message.topic.removeprefix(DATA), None)

    def _take_price(self, update: dict[str, Any]) -> None:
        if not self.is_of_run(update):
            return
        if self._price_alerts.needs(update):
            self._want(update["symbol"])
        now_s = self._clock.time_s()
        self.add_due(self._price_alerts.on_price(update, now_s), now_s)
        fired = self._rules.on_price(update, now_s, self._room)
        self.add([of_rule(one, now_s) for one in fired])

    def _take_live(self, update: dict[str, Any]) -> None:
        now_s = self._clock.time_s()
        fired = self._rules.on_live(update, now_s, self._room)
        self.add([of_rule(one, now_s) for one in fired])

    @property
    def _room(self) -> int:
        return max(0, _MOST_WAITING - len(self.waiting))

    def _want(self, symbol: str) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._asked_s.get(symbol, -_ASKED_EVERY_S) >= _ASKED_EVERY_S:
            self._asked_s[symbol] = now_s
            self.wanted[symbol] = None
            self.reading.set()
