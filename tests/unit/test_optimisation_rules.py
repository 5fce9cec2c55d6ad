"""Optimisation rules: what is on, what depends on what, what is remembered."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace
from typing import Any

import pytest

from actors.monitor.metrics import METRICS
from actors.monitor.optimisation.built_in import BUILT_IN, REQUEST_SCOPED
from actors.monitor.optimisation.registry import (
    HISTORY_MAX,
    RULES_MAX,
    RuleRegistry,
    performance_of,
)
from actors.monitor.optimisation.rules import NAMES_MAX, TYPES, checked_new, threshold_from
from actors.monitor.reading import Reading
from infra.errors import MonitorConflict, MonitorUnknown, RangeInvalid

MEMORY, TA, PRICES = (
    "memory_optimization_basic",
    "caching_technical_analysis",
    "caching_price_data",
)
ASYNC, HEAVY, STREAMING = "async_api_endpoints", "background_heavy_tasks", "websocket_streaming"
CALM = Reading(
    at_s=10.0, span_s=10.0, cpu_percent=20.0, service_cpu_percent=30.0, memory_percent=40.0,
    memory_used_mb=4_000.0, service_memory_mb=900.0, disk_usage_percent=50.0,
    avg_response_ms=100.0, p95_response_ms=300.0, error_rate_percent=0.5, cache_hit_rate=90.0,
    cache_reads=100, hit_rates={},
    active_connections=5, requests=100, failed=0, total_requests=1_000,
    total_failed=0, requests_per_second=10.0, event_loop_lag_ms=1.0, tasks_unfinished=0,
    tasks_ended=0, tasks_failed=0, haproxy_processes=1,
)  # fmt: skip


def book(*off: str) -> RuleRegistry:
    made = RuleRegistry(now_s=0.0)
    for name in off:
        made.disable(name, "", 1.0)
    return made


def new(rule_id: str = "mine", **more: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": rule_id,
        "name": "Mine",
        "description": "Both caches.",
        "optimization_type": "caching",
        "target_services": ["all"],
        "dependencies": [TA, PRICES],
        "performance_threshold": {"p95_response_time_increase_percent": 5},
    }
    return values | more


# --- the built-in rules


def test_the_six_built_in_rules_are_on_in_a_fresh_book() -> None:
    made = book()
    assert list(made.rules) == [MEMORY, TA, PRICES, ASYNC, HEAVY, STREAMING]
    assert made.enabled == set(BUILT_IN)
    assert made.counts() == {
        "total_rules": 6, "enabled_rules": 6, "disabled_rules": 0, "error_rules": 0,
    }  # fmt: skip
    assert made.history == ()
    assert made.described(ASYNC)["enabled_at_s"] == 0.0


def test_each_depends_on_those_before_it() -> None:
    depends = {name: rule.dependencies for name, rule in BUILT_IN.items()}
    assert depends == {
        MEMORY: (), TA: (MEMORY,), PRICES: (MEMORY,), ASYNC: (TA, PRICES),
        HEAVY: (ASYNC,), STREAMING: (HEAVY,),
    }  # fmt: skip
    assert {rule.optimization_type for rule in BUILT_IN.values()} < set(TYPES)
    assert set(REQUEST_SCOPED) == set(BUILT_IN) - {MEMORY, STREAMING}
    assert all(rule.switches for rule in BUILT_IN.values())


@pytest.mark.parametrize(
    ("rule_id", "parsed"),
    [
        (MEMORY, [("increase", "memory_percent", 10), ("increase", "avg_response_time", 15)]),
        (TA, [("minimum", "cache_hit_rate", 70), ("improvement", "avg_response_time", 20)]),
        (PRICES, [("minimum", "cache_hit_rate", 80), ("improvement", "avg_response_time", 30)]),
        (ASYNC, [("improvement", "requests_per_second", 50),
                 ("improvement", "avg_response_time", 25)]),
        (HEAVY, [("improvement", "avg_response_time", 40), ("reduction", "cpu_percent", 30)]),
        (STREAMING, [("maximum", "event_loop_lag_ms", 100), ("minimum", None, 95)]),
    ],
)  # fmt: skip
def test_every_built_in_threshold_parses(rule_id: str, parsed: list[Any]) -> None:
    found = BUILT_IN[rule_id].thresholds
    assert [(one.kind, one.metric, one.limit) for one in found] == parsed


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "kind",
    ["increase_percent", "minimum", "maximum", "improvement", "improvement_minimum", "reduction"],
)
def test_every_metric_of_readings_can_have_every_threshold(metric: str, kind: str) -> None:
    found = threshold_from(f"{metric}_{kind}", 1)
    assert found.metric == metric
    assert kind.startswith(found.kind)


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("cache_hit_rate", 1),
        ("happiness_minimum", 1),
        ("_minimum", 1),
        ("cache_hit_rate_minimum", math.nan),
        ("cache_hit_rate_minimum", math.inf),
        ("cache_hit_rate_minimum", -1),
        ("cache_hit_rate_minimum", True),
        ("cache_hit_rate_minimum", "70"),
    ],
)
def test_a_threshold_that_says_nothing_is_refused(name: str, limit: Any) -> None:
    with pytest.raises(RangeInvalid) as error:
        threshold_from(name, limit)
    assert error.value.location == ("body", f"performance_threshold.{name}")


# --- rules of users


def test_a_rule_of_a_user_is_off_and_switches_nothing_by_itself() -> None:
    made = book(TA)
    rule = made.add(new())
    assert rule.performance_threshold == {"p95_response_time_increase_percent": 5.0}
    assert not rule.switches
    assert made.state("mine").status == "disabled"

    made.enable("mine", True, 5.0)

    assert "mine" in made.enabled
    assert TA not in made.enabled


@pytest.mark.parametrize(
    ("place", "more"),
    [
        ("id", {"id": MEMORY}),
        ("id", {"id": "Bad id"}),
        ("id", {"id": "a" * 65}),
        ("optimization_type", {"optimization_type": "magic"}),
        ("dependencies", {"dependencies": ["mine"]}),
        ("target_services", {"target_services": ["x"] * (NAMES_MAX + 1)}),
        ("performance_threshold.x_minimum", {"performance_threshold": {"x_minimum": 1}}),
    ],
)
def test_a_wrong_rule_is_refused_with_the_place(place: str, more: dict[str, Any]) -> None:
    with pytest.raises(RangeInvalid) as error:
        checked_new(new(**more), BUILT_IN)
    assert error.value.location == ("body", place)
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_a_wrong_type_is_told_those_there_are() -> None:
    with pytest.raises(RangeInvalid, match="memory_optimization, caching, async_processing"):
        checked_new(new(optimization_type="magic"), BUILT_IN)


def test_rules_are_bounded() -> None:
    made = book()
    for number in range(RULES_MAX - len(BUILT_IN)):
        made.add(new(f"r{number}"))
    with pytest.raises(RangeInvalid, match="200 rules"):
        made.add(new())


def test_a_rule_is_removed_only_when_nothing_needs_it() -> None:
    made = book()
    made.add(new())
    made.add(new("second", dependencies=["mine"]))
    made.enable("second", True, 1.0)

    for name, reason in ((MEMORY, "built in"), ("second", "enabled"), ("mine", "second depend")):
        with pytest.raises(MonitorConflict, match=reason):
            made.remove(name)
    made.disable("second", "", 2.0)
    made.remove("second")
    made.remove("mine")

    assert set(made.rules) == set(BUILT_IN)
    with pytest.raises(MonitorUnknown):
        made.remove("mine")


# --- switching


def test_a_rule_is_enabled_only_after_those_it_depends_on() -> None:
    made = book(ASYNC, TA, PRICES)
    with pytest.raises(MonitorConflict, match=f"depends on {TA}, {PRICES}: enable first"):
        made.enable(ASYNC, False, 5.0)
    assert ASYNC not in made.enabled

    made.enable(TA, False, 6.0)
    made.enable(PRICES, False, 6.0)

    assert made.enable(ASYNC, False, 7.0).status == "enabled"


def test_force_enables_it_without_them_and_says_so() -> None:
    made = book(ASYNC, TA)
    made.enable(ASYNC, True, 5.0)
    assert ASYNC in made.enabled
    assert TA not in made.enabled
    assert made.state(ASYNC).reason == f"by force, without {TA}"


def test_enabling_and_disabling_twice_is_one_event() -> None:
    made = book()
    assert made.enable(TA, False, 1.0).event is None
    assert made.disable(TA, "slow", 2.0).event is not None
    assert made.disable(TA, "slow", 3.0).event is None
    assert made.enable(TA, False, 4.0).event is not None
    assert made.enable(TA, False, 5.0).event is None
    assert [event.applied_at_s for event in made.history] == [2.0, 4.0]
    state = made.state(TA)
    assert (state.enabled_at_s, state.disabled_at_s, state.reason) == (4.0, 2.0, "")


def test_dependents_of_a_disabled_rule_stay_on_and_are_named() -> None:
    made = book(TA)
    found = made.disable(MEMORY, "", 2.0)
    assert found.dependents == (PRICES,)
    assert PRICES in made.enabled


def test_a_rollback_keeps_its_reason_and_can_be_enabled_again() -> None:
    made = book()
    event = made.roll_back(ASYNC, "slower", 2.0, {"cpu_percent": 1.0}).event
    assert event is not None
    assert (event.status, event.rollback_reason, event.error_message) == (
        "rollback", "slower", None,
    )  # fmt: skip
    assert made.state(ASYNC).status == "rollback"
    assert ASYNC not in made.enabled
    assert made.counts()["disabled_rules"] == 1
    assert made.enable(ASYNC, False, 3.0).status == "enabled"


def test_what_a_user_switched_off_meanwhile_is_not_rolled_back() -> None:
    made = book(ASYNC)
    assert made.roll_back(ASYNC, "slower", 2.0).event is None
    assert made.state(ASYNC).status == "disabled"


def test_a_rule_under_test_says_so_and_stays_as_it_is() -> None:
    made = book(PRICES)
    made.set_testing([TA, PRICES])
    assert [made.state(name).status for name in (TA, PRICES, ASYNC)] == [
        "testing", "testing", "enabled",
    ]  # fmt: skip
    assert TA in made.enabled
    assert PRICES not in made.enabled
    made.set_testing(())
    assert made.state(PRICES).status == "disabled"


def test_an_unknown_rule_is_said_to_be_unknown() -> None:
    made = book()
    for call in (
        lambda: made.enable("none", True, 0.0),
        lambda: made.disable("none", "", 0.0),
        lambda: made.roll_back("none", "", 0.0),
        lambda: made.state("none"),
        lambda: made.described("none"),
    ):
        with pytest.raises(MonitorUnknown, match="no optimisation rule 'none'"):
            call()


def test_a_batch_is_enabled_in_the_order_of_dependencies() -> None:
    made = book(ASYNC, TA, PRICES)
    found = made.enable_all([ASYNC, "none", PRICES, TA, TA], False, 5.0)
    assert [(one.rule_id, one.success) for one in found] == [
        (ASYNC, True), ("none", False), (PRICES, True), (TA, True),
    ]  # fmt: skip
    assert made.enabled == set(BUILT_IN)


def test_one_of_a_batch_that_cannot_be_does_not_stop_the_others() -> None:
    made = book(MEMORY, TA, HEAVY)
    found = {one.rule_id: one for one in made.enable_all([TA, HEAVY], False, 5.0)}
    assert (found[TA].success, found[TA].status) == (False, "disabled")
    assert MEMORY in str(found[TA].error_message)
    assert found[HEAVY].success
    off = made.disable_all([HEAVY, "none"], "", 6.0)
    assert [one.success for one in off] == [True, False]
    assert HEAVY not in made.enabled


# --- what is remembered


def test_history_is_bounded_and_its_numbers_go_on() -> None:
    made = book()
    for turn in range(HISTORY_MAX):
        made.disable(TA, "", float(turn))
        made.enable(TA, False, float(turn))
    assert len(made.history) == HISTORY_MAX
    assert made.history[-1].number == 2 * HISTORY_MAX
    assert not made.set_after(1, {})


def test_an_event_is_completed_when_its_effect_is_known() -> None:
    made = book()
    event = made.disable(TA, "", 1.0, {"cpu_percent": 10.0}).event
    assert event is not None
    assert event.performance_after is None
    assert made.set_after(event.number, {"cpu_percent": 12.0})
    (kept,) = made.history
    assert kept.performance_before == {"cpu_percent": 10.0}
    assert kept.performance_after == {"cpu_percent": 12.0}


def test_a_baseline_is_means_of_what_was_measured() -> None:
    made = book()
    assert made.baseline is None
    with pytest.raises(ValueError, match="no readings"):
        made.set_baseline([], 5.0)

    quiet = replace(CALM, avg_response_ms=None, cpu_percent=40.0)
    found = made.set_baseline([CALM, quiet], 5.0)

    assert found["cpu_percent"] == 30.0
    assert found["avg_response_time"] == 100.0
    assert found["timestamp"] == 5.0
    assert made.baseline == found
    assert performance_of([quiet])["avg_response_time"] is None


def test_a_book_is_the_same_after_a_restart() -> None:
    made = book()
    made.add(new())
    made.enable("mine", True, 1.0)
    made.roll_back(ASYNC, "slower", 2.0, {"cpu_percent": 1.0})
    made.disable(TA, "not wanted", 3.0)
    made.set_baseline([CALM], 4.0)

    body = json.loads(json.dumps(made.as_dict()))
    found = RuleRegistry.restore(body, now_s=9.0)

    assert found.as_dict() == made.as_dict()
    assert (found.enabled, found.history, found.rules) == (made.enabled, made.history, made.rules)
    assert found.disable(MEMORY, "", 10.0).event == replace(
        made.disable(MEMORY, "", 10.0).event  # type: ignore[type-var]
    )


def test_a_built_in_rule_that_a_saved_book_lacks_is_on() -> None:
    body = book(STREAMING, TA).as_dict()
    del body["states"][STREAMING]
    body["states"]["gone"] = body["states"][TA]
    body["rules"] = [new(MEMORY)]
    found = RuleRegistry.restore(body, now_s=9.0)
    assert found.state(STREAMING).enabled_at_s == 9.0
    assert found.enabled == set(BUILT_IN) - {TA}
    assert found.rule(MEMORY) == BUILT_IN[MEMORY]


# --- recommendations


def test_nothing_is_recommended_while_all_is_on() -> None:
    hot = replace(CALM, cpu_percent=99.0, memory_percent=99.0, avg_response_ms=5_000.0)
    assert book().recommendations(hot) == []


def test_a_disabled_rule_whose_dependencies_are_on_is_recommended() -> None:
    made = book(TA, ASYNC)
    made.add(new(dependencies=[]))  # switches nothing
    (found,) = made.recommendations(CALM)
    assert set(found) == {
        "rule_id", "rule_name", "action", "priority", "reason", "expected_benefit",
    }  # fmt: skip
    assert (found["rule_id"], found["action"], found["priority"]) == (TA, "enable", "medium")
    assert made.recommendations(None) == [found]


@pytest.mark.parametrize(
    ("rule_id", "at_limit"),
    [
        (ASYNC, {"cpu_percent": 70.0}),
        (MEMORY, {"memory_percent": 80.0}),
        (TA, {"avg_response_ms": 1_000.0}),
    ],
)
def test_one_is_urgent_above_its_limit(rule_id: str, at_limit: dict[str, float]) -> None:
    made = book(rule_id)
    above = {name: value + 0.1 for name, value in at_limit.items()}
    at, over = replace(CALM, **at_limit), replace(CALM, **above)  # type: ignore[arg-type]
    (found,) = made.recommendations(at)
    assert found["priority"] == "medium"
    (found,) = made.recommendations(over)
    assert (found["rule_id"], found["priority"]) == (rule_id, "high")


def test_an_urgent_one_says_what_is_in_its_way() -> None:
    made = book(TA)
    made.roll_back(ASYNC, "slower", 2.0)
    hot = replace(CALM, cpu_percent=90.0)
    urgent, other = made.recommendations(hot)
    assert urgent["reason"] == f"CPU is at 90 %; enable {TA} first; it was rolled back: slower"
    assert other["rule_id"] == TA
    # Without the need, one that was rolled back is left alone.
    assert [one["rule_id"] for one in made.recommendations(CALM)] == [TA]
