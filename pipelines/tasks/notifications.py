"""Many notices at once, by the courier that brings alerts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from infra.clock import utc
from infra.db.deliveries import FAILED, SENT, Delivery
from infra.db.store import BATCH
from infra.db.unit import Unit
from infra.errors import TargetInvalid
from infra.notify.channels import checked_channel, is_webhook
from infra.notify.notice import Notice
from infra.notify.signing import new_secret
from infra.notify.targets import checked_target, shown
from infra.outbox import deliver_later
from infra.settings import Settings
from pipelines.api import TaskContext, TaskPriority, task

_WAIT_S = 60.0  # for the courier; what is not brought by then goes on by itself
_LOOK_EVERY_S = 0.25


class Notification(BaseModel):
    """One notice: `recipient` is the URL of a webhook, or one that Apprise knows."""

    model_config = ConfigDict(extra="allow")

    recipient: str = Field(min_length=1, max_length=2_000)
    type: str = Field("message", max_length=64)
    title: str = Field("", max_length=200)
    message: str = Field("", max_length=10_000)


@task("send_notifications", priority=TaskPriority.HIGH, max_retries=5, retry_delay_s=2.0)
async def send_notifications(
    ctx: TaskContext, notifications: list[Notification]
) -> dict[str, Any]:
    """Send notices, and wait up to a minute until they are taken.

    Each goes once, though the task runs twice: they are kept with the alerts' deliveries and
    brought by the same courier, which tries for hours. What it still tries when the minute is
    over counts as `pending_sends`.
    """
    details: dict[int, dict[str, Any]] = {}
    targets: dict[int, str] = {}
    ctx.progress(0, f"{len(notifications)} notices")
    for index, one in enumerate(notifications):
        try:
            targets[index] = _target(one.recipient, ctx.services.settings)
        except TargetInvalid as error:
            details[index] = {"status": "failed", "error": error.message}
    await _add(ctx, notifications, targets)
    details |= await _outcomes(ctx, list(targets))
    states = [details[index]["status"] for index in range(len(notifications))]
    return {
        "total_notifications": len(notifications),
        "successful_sends": states.count("sent"),
        "failed_sends": states.count("failed"),
        "pending_sends": states.count("pending"),
        "send_details": [
            {
                "index": index,
                "recipient": shown(one.recipient),
                "message_type": one.type,
            }
            | details[index]
            for index, one in enumerate(notifications)
        ],
        "sent_at": utc(ctx.services.clock.time_s()).isoformat(),
    }


def _target(recipient: str, settings: Settings) -> str:
    """Return where a notice goes; raises TargetInvalid.

    What Apprise knows may act on this machine without a connection, so only an operator may name
    it.
    """
    if is_webhook(recipient):
        return checked_target(recipient, settings.notify_private)
    if recipient not in settings.targets and not settings.notify_private:
        raise TargetInvalid(
            shown(recipient),
            "of what is no webhook only FINSTAGE_NOTIFY_TARGETS are told",
        )
    return checked_channel(recipient, settings.notify_private)


async def _add(
    ctx: TaskContext, notifications: Sequence[Notification], targets: Mapping[int, str]
) -> None:
    """Let all notices go, by their places in the list, or none; those that are there stay."""
    now = utc(ctx.services.clock.time_s())
    secret = ctx.services.settings.notify_secret.get_secret_value() or new_secret()

    async def work(unit: Unit) -> None:
        for index, target in targets.items():
            notice = _notice(ctx, index, notifications[index], now)
            await deliver_later(unit, notice, [(target, secret)], now)

    if targets:
        await ctx.services.store.write(work, limit=BATCH)


def _notice(ctx: TaskContext, index: int, one: Notification, now: datetime) -> Notice:
    return Notice(
        id=_notice_id(ctx, index), kind=one.type, title=one.title or one.type, text=one.message,
        severity="info", at=now, facts=dict(one.model_extra or {}),
    )  # fmt: skip


async def _outcomes(ctx: TaskContext, waiting: list[int]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    clock = ctx.services.clock
    until_s = clock.monotonic_s() + _WAIT_S
    while len(found) < len(waiting) and clock.monotonic_s() < until_s:
        found |= await _over(ctx, [index for index in waiting if index not in found])
        ctx.progress(100 * len(found) / len(waiting), f"{len(found)} of {len(waiting)}")
        if len(found) < len(waiting):
            await asyncio.sleep(_LOOK_EVERY_S)
    return {index: found.get(index, {"status": "pending"}) for index in waiting}


async def _over(ctx: TaskContext, waiting: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return what became of those that are not tried any more."""

    async def work(unit: Unit) -> dict[int, Delivery]:
        found = {i: await unit.deliveries.of_notice(_notice_id(ctx, i)) for i in waiting}
        return {i: rows[0] for i, rows in found.items() if rows}

    rows = await ctx.services.store.read(work, BATCH)
    return {i: _told(row) for i, row in rows.items() if row.state in (SENT, FAILED)}


def _told(delivery: Delivery) -> dict[str, Any]:
    if delivery.state == SENT:
        return {"status": "sent", "tries": delivery.tries}
    return {"status": "failed", "tries": delivery.tries, "error": delivery.last_error}


def _notice_id(ctx: TaskContext, index: int) -> str:
    return f"task-{ctx.task_id}-{index}"
