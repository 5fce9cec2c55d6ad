"""Jobs are due when they should be, once, and what was missed is made up for within its grace."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import orjson
import pytest

from infra.errors import JobUnknown
from pipelines.jobs.spec import JobSpec, Trigger, daily, every, hourly
from pipelines.scheduler.core import Due, Schedule

T0 = datetime(2026, 3, 4, 12, 0, 30, tzinfo=UTC).timestamp()  # a Wednesday
MINUTE, HOUR = 60.0, 3_600.0


def spec(trigger: Trigger | None = None, **values: object) -> JobSpec:
    given = {"name": "job", "title": "A job.", "timeout_s": 300.0, "grace_s": 600.0} | values
    return JobSpec(trigger=trigger or every(10), **given)  # type: ignore[arg-type]


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def local(at_s: float, zone: str) -> str:
    return datetime.fromtimestamp(at_s, ZoneInfo(zone)).strftime("%m-%d %H:%M")


def row(schedule: Schedule) -> dict[str, object]:
    (only,) = schedule.rows()
    return only


def finish(schedule: Schedule, due: Due, now_s: float) -> None:
    assert schedule.finished(due.name, due.run_id, now_s, "ok", "done")


# -- triggers ----------------------------------------------------------------------------------


def test_intervals_stand_on_the_clock_and_not_on_the_start() -> None:
    trigger = every(30, 5)

    assert local(trigger.next_after(at("2026-03-04 12:00")), "UTC") == "03-04 12:05"
    assert local(trigger.next_after(at("2026-03-04 12:05")), "UTC") == "03-04 12:35"


def test_a_minute_of_the_hour() -> None:
    assert local(hourly(15).next_after(at("2026-03-04 12:15")), "UTC") == "03-04 13:15"


def test_a_daily_job_keeps_its_hour_when_the_clocks_change() -> None:
    trigger = daily(18, 30, "America/New_York", "mon-fri")
    friday = trigger.next_after(at("2026-03-06 09:00", "America/New_York"))
    monday = trigger.next_after(friday)

    assert local(friday, "America/New_York") == "03-06 18:30"
    assert local(monday, "America/New_York") == "03-09 18:30"
    assert monday - friday == 3 * 24 * HOUR - HOUR


def test_a_time_that_the_clock_jumps_over_is_due_once() -> None:
    trigger = daily(2, 30, "America/New_York")
    first = trigger.next_after(at("2026-03-07 12:00", "America/New_York"))
    second = trigger.next_after(first)

    assert local(first, "America/New_York")[:5] == "03-08"
    assert local(second, "America/New_York") == "03-09 02:30"


def test_a_time_that_the_clock_comes_by_twice_is_due_once() -> None:
    trigger = daily(1, 30, "America/New_York")
    first = trigger.next_after(at("2026-10-31 12:00", "America/New_York"))
    second = trigger.next_after(first)

    assert local(first, "America/New_York") == "11-01 01:30"
    assert local(second, "America/New_York") == "11-02 01:30"


# -- due ---------------------------------------------------------------------------------------


def test_a_new_job_waits_for_its_time() -> None:
    schedule = Schedule([spec()], T0)

    assert schedule.due(T0) == []
    assert schedule.next_due_s(T0) == at("2026-03-04 12:10")
    (due,) = schedule.due(at("2026-03-04 12:10"))
    assert (due.name, due.reason) == ("job", "schedule")
    assert schedule.due(at("2026-03-04 12:10")) == []


def test_a_time_that_comes_while_it_runs_is_skipped_and_counted() -> None:
    schedule = Schedule([spec()], T0)
    (due,) = schedule.due(at("2026-03-04 12:10"))

    assert schedule.due(at("2026-03-04 12:20")) == []
    finish(schedule, due, at("2026-03-04 12:21"))

    assert row(schedule)["skipped"] == 1
    assert len(schedule.due(at("2026-03-04 12:30"))) == 1


def test_several_missed_times_are_one_run() -> None:
    schedule = Schedule([spec(grace_s=2 * HOUR)], T0)

    (due,) = schedule.due(T0 + HOUR)

    assert due.reason == "missed"
    assert schedule.next_due_s(T0 + HOUR) > T0 + HOUR


def test_what_is_late_beyond_its_grace_is_skipped() -> None:
    schedule = Schedule([spec(grace_s=60)], T0)

    assert schedule.due(at("2026-03-04 12:11:30")) == []
    assert row(schedule)["skipped"] == 1


def test_outside_market_hours_nothing_is_due_and_nothing_is_skipped() -> None:
    schedule = Schedule([spec(market_hours=True)], T0)

    assert schedule.due(at("2026-03-04 12:10"), market_open=False) == []
    assert row(schedule)["skipped"] == 0
    assert len(schedule.due(at("2026-03-04 12:20"), market_open=True)) == 1


def test_a_clock_that_is_put_back_stops_nothing_and_doubles_nothing() -> None:
    schedule = Schedule([spec()], T0)
    (due,) = schedule.due(at("2026-03-04 12:10"))
    finish(schedule, due, at("2026-03-04 12:10:05"))

    assert schedule.due(at("2026-03-04 12:09:58")) == []
    assert schedule.due(at("2026-03-04 12:10:01")) == []
    assert len(schedule.due(at("2026-03-04 12:20"))) == 1
    assert schedule.finished("job", row(schedule)["run_id"], at("2026-03-04 12:20"), "ok", "")  # type: ignore[arg-type]
    assert schedule.next_due_s(at("2026-03-03 12:00")) <= at("2026-03-03 12:20")


def test_a_stall_longer_than_the_grace_still_runs_the_latest_time() -> None:
    schedule = Schedule([spec(every(10), grace_s=300)], T0)

    assert len(schedule.due(at("2026-03-04 13:31"))) == 1


# -- runs --------------------------------------------------------------------------------------


def test_the_end_of_a_run_is_told_with_its_duration() -> None:
    schedule = Schedule([spec()], T0)
    (due,) = schedule.due(at("2026-03-04 12:10"))
    schedule.finished("job", due.run_id, at("2026-03-04 12:10:03"), "failed", "x" * 1_000)

    told = row(schedule)

    assert told["last_duration_seconds"] == 3
    assert told["last_outcome"] == "failed"
    assert told["last_message"] == "x" * 500
    assert (told["runs"], told["failures"], told["running"]) == (1, 1, False)


def test_what_runs_too_long_is_overdue_and_its_late_end_counts_no_more() -> None:
    schedule = Schedule([spec(timeout_s=100)], T0)
    (due,) = schedule.due(at("2026-03-04 12:10"))
    late_s = at("2026-03-04 12:11:41")

    assert schedule.overdue(late_s - 2) == []
    assert schedule.overdue(late_s) == [("job", due.run_id)]
    schedule.finished("job", due.run_id, late_s, "timeout", "took more than 100 s")

    assert not schedule.finished("job", due.run_id, late_s + 1, "ok", "")
    assert row(schedule)["last_outcome"] == "timeout"


def test_a_run_is_overdue_though_the_clock_was_put_back() -> None:
    schedule = Schedule([spec(timeout_s=100)], T0)
    (due,) = schedule.due(at("2026-03-04 12:10"))

    assert schedule.overdue(at("2026-03-04 11:00")) == []
    assert schedule.overdue(at("2026-03-04 11:02")) == [("job", due.run_id)]


# -- people ------------------------------------------------------------------------------------


def test_a_paused_job_runs_only_when_asked_and_makes_up_nothing() -> None:
    schedule = Schedule([spec()], T0)
    schedule.pause("job")

    assert schedule.due(at("2026-03-04 12:10")) == []
    assert row(schedule)["next_run_at"] is None
    asked = schedule.run_now("job", T0 + 900)
    assert asked is not None
    assert schedule.run_now("job", T0 + 900) is None
    finish(schedule, asked, T0 + 901)
    schedule.resume("job", at("2026-03-04 12:29"))

    assert schedule.due(at("2026-03-04 12:29")) == []
    assert len(schedule.due(at("2026-03-04 12:30"))) == 1


@pytest.mark.parametrize("call", ["pause", "resume", "run_now"])
def test_a_name_that_no_job_has_is_said(call: str) -> None:
    schedule = Schedule([spec()], T0)
    arguments = ("jop",) if call == "pause" else ("jop", T0)

    with pytest.raises(JobUnknown, match="nearest known: job; there are job"):
        getattr(schedule, call)(*arguments)


# -- restarts ----------------------------------------------------------------------------------


def restarted(schedule: Schedule, now_s: float, job: JobSpec | None = None) -> Schedule:
    return Schedule([job or spec()], now_s, schedule.save())


def test_a_restart_changes_no_time_and_forgets_nothing() -> None:
    schedule = Schedule([spec()], T0)
    (due,) = schedule.due(at("2026-03-04 12:10"))
    finish(schedule, due, at("2026-03-04 12:10:02"))
    before = row(schedule)

    after = restarted(schedule, at("2026-03-04 12:13"))

    assert row(after) == before
    assert after.due(at("2026-03-04 12:13")) == []


def test_a_run_that_the_restart_missed_is_made_up_for_within_its_grace() -> None:
    schedule = Schedule([spec()], T0)
    (due,) = schedule.due(at("2026-03-04 12:10"))
    finish(schedule, due, at("2026-03-04 12:10:02"))

    soon = restarted(schedule, at("2026-03-04 12:25"))
    (made_up,) = soon.due(at("2026-03-04 12:25"))
    strict = spec(grace_s=60)
    late = restarted(schedule, at("2026-03-04 12:25"), strict)

    assert made_up.reason == "missed"
    assert late.due(at("2026-03-04 12:25")) == []
    assert late.next_due_s(at("2026-03-04 12:25")) == at("2026-03-04 12:30")


def test_a_run_that_the_restart_cut_is_lost_and_made_up_for() -> None:
    schedule = Schedule([spec()], T0)
    schedule.due(at("2026-03-04 12:10"))

    after = restarted(schedule, at("2026-03-04 12:12"))

    assert row(after)["last_outcome"] == "lost"
    assert [due.reason for due in after.due(at("2026-03-04 12:12"))] == ["missed"]


def test_what_was_made_up_for_is_not_made_up_for_again() -> None:
    schedule = Schedule([spec(grace_s=2 * HOUR)], T0)
    (due,) = schedule.due(T0 + HOUR)
    finish(schedule, due, T0 + HOUR + 1)

    assert restarted(schedule, T0 + HOUR + 60, spec(grace_s=2 * HOUR)).due(T0 + HOUR + 60) == []


def test_what_a_pause_let_pass_is_not_made_up_for_after_a_restart() -> None:
    schedule = Schedule([spec()], T0)
    (due,) = schedule.due(at("2026-03-04 12:10"))
    finish(schedule, due, at("2026-03-04 12:10:02"))
    schedule.pause("job")
    schedule.resume("job", at("2026-03-04 12:21"))

    now_s = at("2026-03-04 12:22")
    assert restarted(schedule, now_s).due(now_s) == []


def test_a_clock_put_back_over_a_restart_doubles_nothing() -> None:
    schedule = Schedule([spec()], T0)
    (due,) = schedule.due(at("2026-03-04 12:10"))
    finish(schedule, due, at("2026-03-04 12:10:02"))

    after = restarted(schedule, at("2026-03-04 12:09"))

    assert after.due(at("2026-03-04 12:10")) == []
    assert len(after.due(at("2026-03-04 12:20"))) == 1


def test_pauses_outlive_a_restart_and_jobs_that_are_gone_do_not() -> None:
    schedule = Schedule([spec(), spec(name="old")], T0)
    schedule.pause("job")

    after = restarted(schedule, T0)

    assert row(after)["paused"] is True


DAMAGED = [
    b"",
    b"[]",
    b'{"job": 3}',
    b'{"job": {"what": 1}}',
    b'{"job": {"last_due_s": "noon"}}',
    b'{"job": {"runs": null}}',
    b'{"job": {"paused": 1}}',
    b'{"job": {"last_outcome": "fine"}}',
]


@pytest.mark.parametrize("saved", DAMAGED)
def test_a_damaged_schedule_is_said(saved: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Schedule([spec()], T0, saved)


def test_what_is_saved_is_plain_json() -> None:
    assert set(orjson.loads(Schedule([spec()], T0).save())) == {"job"}


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_no_two_run_at_once_and_none_is_forgotten(seed: int) -> None:
    draws = random.Random(seed)
    specs = [spec(every(draws.randint(1, 30)), name=f"job{n}") for n in range(3)]
    schedule, now_s = Schedule(specs, T0), T0
    running: dict[str, str] = {}
    for _ in range(200):
        now_s += draws.choice([1, 30, 120, 1_000, -500])
        step = draws.random()
        if step < 0.6:
            for due in schedule.due(now_s):
                assert due.name not in running, f"seed {seed}"
                running[due.name] = due.run_id
        elif step < 0.9 and running:
            name = draws.choice(sorted(running))
            assert schedule.finished(name, running.pop(name), now_s, "ok", "")
        else:
            schedule, running = Schedule(specs, now_s, schedule.save()), {}
    for name, run_id in running.items():
        schedule.finished(name, run_id, now_s, "ok", "")
    for minute in range(61):  # two of the longest periods
        for due in schedule.due(now_s + minute * MINUTE):
            finish(schedule, due, now_s + minute * MINUTE)
            running[due.name] = "ran"
    ran = {name for name, run_id in running.items() if run_id == "ran"}
    assert ran == {"job0", "job1", "job2"}, f"seed {seed}"
