"""Brings what is to be told to its targets, again and again until it is taken or hopeless."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Protocol

import orjson

from infra.clock import Clock, utc
from infra.db.deliveries import FAILED, SENT, WAITING, Delivery
from infra.db.store import Store
from infra.db.unit import Unit
from infra.errors import StoreError
from infra.metrics import NOTIFICATIONS
from infra.notify.notice import Notice
from infra.notify.outcome import Outcome, Refused, Sent, TryAgain

logger = logging.getLogger(__name__)

MOST_TRIES = 10
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 3_600.0
_AT_ONCE, _MOST_TARGETS = 64, 640  # under way, looked at
_LOOK_EVERY_S = 1.0  # for what others added, and what is due again


_OUTCOMES: dict[type[Outcome], str] = {Sent: "sent", TryAgain: "again", Refused: "refused"}


def _channel_of(target: str) -> str:
    scheme = target.partition(":")[0].lower()
    if scheme in ("http", "https"):
        return "webhook"
    return "email" if scheme in ("mailto", "mailtos") else "other"


class Sender(Protocol):
    """Who sends; see WebhookSender."""

    async def send(self, url: str, secret: str, notice: Notice) -> Outcome:
        """Send once, and say what came of it."""


async def deliver_later(
    unit: Unit, notice: Notice, targets: Sequence[tuple[str, str]], now: datetime
) -> None:
    """Add a notice to what is to be told, in the transaction of what it tells of.

    `targets`: URLs with their secrets. The same notice and target again changes nothing.
    """
    await unit.deliveries.add(notice.id, orjson.dumps(asdict(notice)).decode(), targets, now)


class Courier:
    """Sends what the store says is due. State: what is under way, soft.

    At least once: where the answer of a target, or the store's, was lost, the notice goes again,
    with the same id. One at a time to each target, and targets take turns, so those that hang hold
    up only themselves, whatever waits for them. After `MOST_TRIES`, about three hours of growing
    pauses, a delivery has failed.
    """

    def __init__(
        self, store: Store, sender: Sender, clock: Clock, draws: random.Random | None = None
    ) -> None:
        self._store = store
        self._sender = sender
        self._clock = clock
        self._draws = draws or random.Random()
        self._under_way: dict[str, asyncio.Task[None]] = {}  # by target
        self._turn = 0
        self._turns: dict[str, int] = {}  # the last turn of targets
        self._awake = asyncio.Event()

    def wake(self) -> None:
        """Look at once: something was added."""
        self._awake.set()

    async def run(self) -> None:
        """Never return; a store that is away is waited for."""
        while True:
            try:
                await self.look()
            except StoreError as error:
                logger.info("courier.waiting", extra={"reason": error.code})
            await self._pause()

    async def look(self) -> int:
        """Begin to send what is due and whose target is free; return how many were begun."""
        room = _AT_ONCE - len(self._under_way)
        if room <= 0:
            return 0
        now, busy = utc(self._clock.time_s()), tuple(self._under_way)
        due = await self._store.read(lambda unit: unit.deliveries.due(now, _MOST_TARGETS, busy))
        due.sort(key=lambda delivery: self._turns.get(delivery.target, 0))
        for delivery in due[:room]:
            self._turn += 1
            self._turns[delivery.target] = self._turn
            task = asyncio.create_task(self._bring(delivery))
            self._under_way[delivery.target] = task
        if len(self._turns) > _MOST_TARGETS:
            self._turns = {t: n for t, n in self._turns.items() if n > self._turn - _MOST_TARGETS}
        return len(due[:room])

    async def idle(self) -> None:
        """Wait until nothing is under way."""
        while self._under_way:
            await asyncio.gather(*self._under_way.values())

    async def _pause(self) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(_LOOK_EVERY_S))
        waking = asyncio.ensure_future(self._awake.wait())
        await asyncio.wait({sleeping, waking}, return_when=asyncio.FIRST_COMPLETED)
        sleeping.cancel()
        waking.cancel()
        self._awake.clear()

    async def _bring(self, delivery: Delivery) -> None:
        try:
            notice = Notice(**orjson.loads(delivery.body))
            outcome = await self._sender.send(delivery.target, delivery.secret, notice)
            await self._note(delivery, outcome)
        except StoreError as error:  # it stays waiting, and goes again
            logger.info("courier.unnoted", extra={"reason": error.code})
        except Exception:  # of one target: the others go on, and it is tried again
            logger.exception("courier.failed", extra={"notice": delivery.notice_id})
            await self._note(delivery, TryAgain("a bug"))
        finally:
            del self._under_way[delivery.target]
            self.wake()

    async def _note(self, delivery: Delivery, outcome: Outcome) -> None:
        tries = delivery.tries + 1
        NOTIFICATIONS.labels(_channel_of(delivery.target), _OUTCOMES[type(outcome)]).inc()
        state, pause_s, reason = self._verdict(outcome, tries)
        next_at = utc(self._clock.time_s()) + timedelta(seconds=pause_s)
        await self._store.write(
            lambda unit: unit.deliveries.tried(delivery.id, state, tries, next_at, reason)
        )
        if state == FAILED:
            told = {"notice": delivery.notice_id, "reason": reason, "tries": tries}
            logger.warning("courier.gave_up", extra=told)

    def _verdict(self, outcome: Outcome, tries: int) -> tuple[str, float, str | None]:
        if isinstance(outcome, Sent):
            return SENT, 0.0, None
        if isinstance(outcome, Refused) or tries >= MOST_TRIES:
            return FAILED, 0.0, outcome.reason
        longest_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (tries - 1))
        pause_s = outcome.after_s
        if pause_s is None:
            pause_s = self._draws.uniform(0.0, longest_s)  # full jitter
        return WAITING, pause_s, outcome.reason
