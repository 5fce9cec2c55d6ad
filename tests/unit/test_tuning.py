"""Settings are changed for what lasts, by bounded steps, and back where that made it worse."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats  # type: ignore[import-untyped]

from actors.monitor.comparison import MeanChange
from actors.monitor.knobs import Change, Knobs, Trigger
from actors.monitor.plain import plain, restored
from actors.monitor.reading import Reading
from actors.monitor.reviews import outcome
from actors.monitor.tuning import ALL_RULES, ASYNC_RULE, MEMORY_RULE, Tuner
from tests.unit.test_readings import NOW_S, every_minute, reading

KNOBS = Knobs(batch_ms=3.0, task_at_once=4)
FULL: dict[str, Any] = {"memory_percent": 88.0}
SLOW: dict[str, Any] = {"avg_response_ms": 1_600.0}
# Poor by its threshold, and beyond no limit of the usual tuning.
BUSY: dict[str, Any] = {"cpu_percent": 75.0}


def decide(
    readings: Sequence[Reading], tuner: Tuner | None = None, knobs: Knobs = KNOBS, **given: Any
) -> Change | None:
    """Decide upon the last of the readings, at its time."""
    newest = readings[-1]
    return (tuner or Tuner()).decide(newest, readings[:-1], knobs, newest.at_s, **given)


def lasting(count: int, start: int = 0, **figures: Any) -> list[Reading]:
    """Return readings of a minute each."""
    return [reading(minute, **figures) for minute in range(start, start + count)]


def minutes(change: Change | None) -> float:
    """Return when a change was made."""
    assert change is not None
    return (change.at_s - NOW_S) / 60


def changes(readings: Sequence[Reading], tuner: Tuner) -> list[Change]:
    """Return what a tuner decides as readings come in; nothing is reviewed."""
    found = [decide(readings[: i + 1], tuner) for i in range(len(readings))]
    return [change for change in found if change is not None]


# -- knobs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "figures",
    [
        {"cache_share": 0.19}, {"cache_share": 2.1}, {"ttl_factor": 0.4}, {"ttl_factor": 4.1},
        {"batch_ms": -1.0}, {"task_at_once": 0}, {"cache_share": float("nan")},
    ],
)  # fmt: skip
def test_knobs_have_bounds(figures: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(figures))} must be from"):
        restored(Knobs, plain(KNOBS) | figures)


def test_knobs_and_changes_survive_the_store() -> None:
    change = decide(lasting(3, **FULL, **SLOW))
    assert change is not None
    assert restored(Change, json.loads(json.dumps(plain(change)))) == change
    knobs = Knobs(cache_share=0.7, batch_ms=3.0, task_at_once=4, prefetch=("AAPL", "MSFT"))
    assert restored(Knobs, json.loads(json.dumps(plain(knobs)))) == knobs


# -- triggers -------------------------------------------------------------------------------


def test_full_memory_shrinks_caches() -> None:
    change = decide(lasting(3, **FULL))

    assert change is not None
    assert change.before == KNOBS
    assert change.after == Knobs(cache_share=0.7, batch_ms=3.0, task_at_once=4)
    assert change.needs_rules == (MEMORY_RULE,)
    assert change.triggers == (Trigger("memory_percent", 88.0, 85.0),)
    assert change.reason == "memory_percent 88 (limit 85)"
    assert change.name == "auto_tuning_completed"
    assert not change.sheds_memory


def test_slow_responses_get_the_cpu_of_tasks() -> None:
    change = decide(lasting(3, **SLOW))

    assert change is not None
    assert change.after == Knobs(batch_ms=3.0, task_at_once=2)
    assert change.needs_rules == (ASYNC_RULE,)


def test_the_hub_collects_longer_only_under_load() -> None:
    change = decide(lasting(3, **SLOW, cpu_percent=80.0))
    assert change is not None
    assert change.after == Knobs(batch_ms=6.0, task_at_once=2)


def test_missed_caches_live_longer_and_prefetch_what_is_asked_most() -> None:
    asked = ("AAPL", "MSFT", "TSLA", "AMZN", "GOOGL", "NVDA")
    low: dict[str, Any] = {"cache_hit_rate": 50.0, "cache_reads": 50}

    change = decide(lasting(3, **low), most_asked=asked)

    assert change is not None
    assert change.after == Knobs(ttl_factor=1.5, batch_ms=3.0, task_at_once=4, prefetch=asked[:5])
    assert change.needs_rules == ()
    assert decide(lasting(3, **low | {"cache_reads": 49})) is None


@pytest.mark.parametrize(
    "figures",
    [
        {"memory_percent": 85.0}, {"avg_response_ms": 1_500.0},
        {"cache_hit_rate": 60.0, "cache_reads": 50}, {"cpu_percent": 99.0, "memory_percent": 84.0},
    ],
)  # fmt: skip
def test_at_the_limit_nothing_is_tuned(figures: dict[str, Any]) -> None:
    assert decide(lasting(4, **figures)) is None


def test_all_that_lasts_is_one_change() -> None:
    low: dict[str, Any] = {"cache_hit_rate": 50.0, "cache_reads": 50}
    change = decide(lasting(3, **FULL | low))

    assert change is not None
    assert (change.after.cache_share, change.after.ttl_factor) == (0.7, 1.5)
    assert [t.metric for t in change.triggers] == ["memory_percent", "cache_hit_rate"]


# -- what is not enough ---------------------------------------------------------------------


def test_an_idle_service_is_not_tuned_for_hours() -> None:
    tuner = Tuner()
    idle = [
        reading(m, **({"cache_hit_rate": 0.0, "cache_reads": 1} if m % 10 == 0 else {}))
        for m in range(600)
    ]
    assert changes(idle, tuner) == []
    assert tuner.state() == Tuner().state()


def test_one_noisy_reading_does_nothing() -> None:
    calm = [100.0] * 30
    for at in range(30):
        noisy = every_minute([*calm[:at], 60_000.0, *calm[at + 1 :]])
        assert changes(noisy, Tuner()) == []


@pytest.mark.parametrize(
    ("values", "is_tuned"),
    [
        ([90.0, 90.0], False),
        ([90.0, 90.0, 90.0], True),
        ([90.0, 50.0, 90.0, 50.0, 90.0], True),
        ([90.0, 50.0, 50.0, 90.0, 50.0, 90.0], False),  # the first is the sixth last
        ([90.0, 90.0, 90.0, 90.0, 50.0], False),  # it is over
    ],
)
def test_three_of_the_last_five_and_the_newest_must_hold(
    values: list[float], is_tuned: bool
) -> None:
    assert (decide(every_minute(values, "memory_percent")) is not None) == is_tuned


def test_the_reading_counts_once_if_it_is_among_the_recent_too() -> None:
    rows = lasting(2, **FULL)
    assert Tuner().decide(rows[-1], rows, KNOBS, rows[-1].at_s) is None


def test_readings_from_before_a_pause_are_no_evidence() -> None:
    assert decide([*lasting(4, **FULL), reading(15, **FULL)]) is None


def test_a_knob_at_its_bound_is_left_alone() -> None:
    least = Knobs(cache_share=0.2, ttl_factor=4.0, batch_ms=20.0, task_at_once=1)
    bad: dict[str, Any] = FULL | SLOW | {"cache_hit_rate": 10.0, "cpu_percent": 80.0}

    assert decide(lasting(4, **bad), knobs=least, rules_on=ALL_RULES) is None
    change = decide(lasting(4, **bad), knobs=least, rules_on=[MEMORY_RULE])
    assert change is not None
    assert (change.after, change.needs_rules) == (least, (ASYNC_RULE,))


def test_steps_stop_at_the_bounds() -> None:
    near = Knobs(cache_share=0.25, ttl_factor=3.0, batch_ms=15.0, task_at_once=3)
    bad: dict[str, Any] = FULL | SLOW | {"cache_hit_rate": 10.0, "cpu_percent": 80.0}

    change = decide(lasting(4, **bad), knobs=near)

    assert change is not None
    assert change.after == Knobs(cache_share=0.2, ttl_factor=4.0, batch_ms=20.0, task_at_once=1)


def test_what_the_operator_set_beyond_a_bound_is_not_pulled_back() -> None:
    change = decide(
        lasting(3, **SLOW, cpu_percent=80.0), knobs=Knobs(batch_ms=50.0, task_at_once=64)
    )
    assert change is not None
    assert (change.after.batch_ms, change.after.task_at_once) == (50.0, 32)


# -- cool-down ------------------------------------------------------------------------------


def test_the_cool_down_is_shared_by_all_reasons() -> None:
    tuner = Tuner()
    low: dict[str, Any] = {"cache_hit_rate": 50.0, "cache_reads": 50}  # poor by no threshold
    rows = [*lasting(3, **FULL), *lasting(40, 3, **low)]

    assert [minutes(change) for change in changes(rows, tuner)] == [2, 32]


def test_five_poor_readings_do_not_wait_for_the_cool_down() -> None:
    tuner = Tuner()
    assert minutes(decide(lasting(3, **FULL), tuner)) == 2
    rows = lasting(8, **FULL)

    change = decide(rows[:5], tuner)

    assert change is not None
    assert change.is_forced
    assert change.name == "force_auto_tuning_completed"
    assert change.needs_rules == ALL_RULES
    assert change.sheds_memory
    assert change.reason == "five poor readings in a row: memory_percent 88 (limit 80)"
    assert decide(rows, tuner) is None


def test_a_busy_machine_keeps_its_caches() -> None:
    change = decide(lasting(5, **BUSY))

    assert change is not None
    assert change.is_forced
    assert not change.sheds_memory
    assert change.after == Knobs(batch_ms=6.0, task_at_once=2)


def test_forced_changes_wait_for_their_outcome() -> None:
    tuner, rows, made = Tuner(), lasting(40, **FULL), []
    for index, one in enumerate(rows):
        assert tuner.review(rows[: index + 1], one.at_s) is None  # memory stays as it is
        change = decide(rows[: index + 1], tuner)
        made += [(minutes(change), change.is_forced)] if change is not None else []

    assert made == [(2, False), (4, True), (16, True), (28, True)]
    verdicts = [review["outcomes"][0]["verdict"] for review in tuner.reviews]
    assert verdicts == ["no difference"] * 2  # the first was overtaken, the last is under review


# -- outcomes -------------------------------------------------------------------------------


def changed_at(minute: int, metric: str = "memory_percent") -> Tuner:
    """Return a tuner that made a change for a metric, which is to be reviewed."""
    made = Change(
        NOW_S + 60 * minute, KNOBS, Knobs(cache_share=0.7, batch_ms=3.0, task_at_once=4), "why",
        (Trigger(metric, 1.0, 1.0),), (MEMORY_RULE,),
    )  # fmt: skip
    return Tuner(state={"pending": plain(made), "changed_s": made.at_s})


def test_welchs_interval_is_scipys() -> None:
    draws = np.random.default_rng(5)
    for was_count, now_count in ((5, 5), (5, 10), (10, 10), (10, 60)):
        was = draws.normal(100, 20, was_count).tolist()
        now = draws.normal(90, 5, now_count).tolist()
        expected = scipy_stats.ttest_ind(now, was, equal_var=False).confidence_interval(0.95)

        assert MeanChange(was, now, 0.025).interval == pytest.approx(
            (expected.low, expected.high), rel=1e-9
        )


def test_equal_values_do_not_differ_by_rounding() -> None:
    low, high = MeanChange([0.1 + 0.2] * 5, [0.3] * 5, 0.025).interval
    assert low <= 0 <= high
    assert MeanChange([1.0] * 5, [2.0] * 5, 0.025).interval == pytest.approx((1.0, 1.0))


@pytest.mark.parametrize(
    ("metric", "was", "now", "verdict"),
    [
        ("avg_response_ms", 1_600.0, 800.0, "better"),
        ("avg_response_ms", 800.0, 1_600.0, "worse"),
        ("avg_response_ms", 800.0, 801.0, "no difference"),
        ("cache_hit_rate", 50.0, 80.0, "better"),
        ("cache_hit_rate", 80.0, 50.0, "worse"),
    ],
)
def test_verdicts_know_which_way_is_better(
    metric: str, was: float, now: float, verdict: str
) -> None:
    noise = np.random.default_rng(2).normal(1, 0.05, 20)
    rows = every_minute((np.array([was] * 10 + [now] * 10) * noise).tolist(), metric)
    name = "avg_response_time" if metric == "avg_response_ms" else metric

    found = outcome(name, rows[:10], rows[10:])

    assert found.verdict == verdict
    assert (found.before_readings, found.after_readings) == (10, 10)
    assert found.change_percent == pytest.approx(100 * (now - was) / was, abs=5)


def test_few_readings_give_means_and_no_verdict() -> None:
    rows = every_minute([100.0] * 5 + [200.0] * 4)
    found = outcome("api_response_time_ms", rows[:5], [*rows[5:], reading(9)])  # one had none

    assert found.verdict == "not enough readings"
    assert (found.before_mean, found.after_mean, found.change_percent) == (100.0, 200.0, 100.0)
    assert (found.low, found.high, found.after_readings) == (None, None, 4)
    assert outcome("api_response_time_ms", [], []).before_mean is None


def test_the_outcome_is_of_ten_minutes_before_and_two_to_twelve_after() -> None:
    values = [9_999.0] * 10 + [80.0, 81.0] * 5 + [9_999.0] * 2 + [70.0, 71.0] * 5 + [9_999.0]
    rows = every_minute(values, "memory_percent")
    tuner = changed_at(19)  # minutes 10 to 19 are before

    assert tuner.review(rows, NOW_S + 60 * 30.9) is None
    assert tuner.pending is not None
    assert tuner.review(rows, NOW_S + 60 * 31) is None

    assert tuner.pending is None
    (review,) = tuner.reviews
    (found,) = review["outcomes"]
    assert (found["before_mean"], found["after_mean"]) == (80.5, 70.5)
    assert (found["before_readings"], found["after_readings"]) == (10, 10)
    assert found["verdict"] == "better"
    assert not review["is_worse"]


def test_what_made_it_worse_is_undone_and_rests() -> None:
    rows = every_minute([86.0, 87.0] * 5 + [92.0, 93.0] * 80, "memory_percent")
    tuner = changed_at(9)

    undo = tuner.review(rows[:22], NOW_S + 60 * 21)

    assert undo is not None
    assert undo.knobs == KNOBS
    assert undo.rules == (MEMORY_RULE,)
    assert undo.reason == "worse since the change: memory_percent was 86.5, is 92.5"
    assert tuner.review(rows[:23], NOW_S + 60 * 22) is None  # once
    assert [decide(rows[: i + 1], tuner) for i in range(22, 21 + 120)] == [None] * 119
    assert decide(rows[: 21 + 121], tuner) is not None


def test_an_undo_begins_the_cool_down_anew() -> None:
    tuner = changed_at(9)
    rows = every_minute([86.0, 87.0] * 5 + [92.0, 93.0] * 6, "memory_percent")
    assert tuner.review(rows, NOW_S + 60 * 21) is not None
    low = lasting(40, 22, cache_hit_rate=50.0, cache_reads=50)

    assert [minutes(change) for change in changes(low, tuner)] == [51]


def test_no_difference_by_chance_is_seldom_undone() -> None:
    draws, undone = np.random.default_rng(17), 0
    for _ in range(400):
        rows = every_minute(draws.normal(88, 2, 22).tolist(), "memory_percent")
        undone += changed_at(9).review(rows, NOW_S + 60 * 21) is not None

    assert 0 < undone <= 20  # 2.5 % are expected


# -- restarts -------------------------------------------------------------------------------


def test_a_restart_goes_on_where_it_was() -> None:
    tuner = Tuner()
    rows = lasting(3, **FULL)
    decide(rows, tuner)

    again = Tuner(state=json.loads(json.dumps(tuner.state())))

    assert again.pending == tuner.pending
    assert again.state() == tuner.state()
    assert decide(lasting(4, 3, **FULL), again) is None  # the cool-down goes on
    assert again.review(lasting(40, **FULL), NOW_S + 60 * 14) is None
    assert len(again.reviews) == 1
    assert Tuner(state=again.state()).state() == again.state()
