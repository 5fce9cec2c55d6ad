"""What a job is, and when it is due: every so often, or at times of a zone's clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

Outcome = Literal["ok", "failed", "timeout", "lost"]


@dataclass(frozen=True, slots=True)
class Trigger:
    """Due times that depend on nothing but the clock, so that a restart changes none."""

    text: str  # for people
    _trigger: Any
    _is_daily: bool = False

    def next_after(self, at_s: float) -> float:
        """Return the first due time after an instant, both Unix seconds."""
        due = self._after(datetime.fromtimestamp(at_s, UTC))
        while self._is_daily and due.fold:  # the hour that the clock goes back is had already
            due = self._after(due.astimezone(UTC))
        return due.timestamp()

    def _after(self, at: datetime) -> datetime:
        found: datetime = self._trigger.get_next_fire_time(None, at + timedelta(microseconds=1))
        return found


def every(minutes: int, offset_minutes: int = 0) -> Trigger:
    """Return a trigger every so many minutes since 1970, moved by an offset."""
    start = datetime.fromtimestamp(offset_minutes * 60, UTC)
    text = f"every {minutes} min" if minutes % 60 else f"every {minutes // 60} h"
    if offset_minutes:
        text += f", {offset_minutes} min later"
    trigger = IntervalTrigger(minutes=minutes, start_date=start, timezone=UTC)
    return Trigger(text, trigger)


def hourly(minute: int) -> Trigger:
    """Return a trigger at a minute of every hour."""
    return Trigger(f"hourly at :{minute:02}", CronTrigger(minute=minute, timezone=UTC))


def daily(hour: int, minute: int, time_zone: str, day_of_week: str | None = None) -> Trigger:
    """Return a trigger at a time of a zone's clock, on all days or on some (`mon-fri`, `sun`).

    A time that the clock jumps over is due an hour later by that clock, once; one that it comes
    by twice is due the first time.
    """
    text = f"{day_of_week or 'daily'} at {hour:02}:{minute:02} {time_zone}"
    trigger = CronTrigger(
        day_of_week=day_of_week, hour=hour, minute=minute, timezone=ZoneInfo(time_zone)
    )
    return Trigger(text, trigger, _is_daily=True)


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What a job is.

    `grace_s`: a time that was missed while nobody looked is made up for if it is at most so old.
    `market_hours`: due only while a market of the monitored symbols is open.
    """

    name: str
    title: str
    trigger: Trigger
    timeout_s: float
    grace_s: float
    market_hours: bool = False
