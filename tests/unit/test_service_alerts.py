"""Alerts about the service: what lasts is told once, its end always, what flaps is damped."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from actors.monitor.alerting.alert import Flapping, Happening, Resolved, ServiceAlert, Triggered
from actors.monitor.alerting.engine import AlertEngine
from actors.monitor.alerting.rules import (
    CHANNELS,
    CONDITIONS,
    DEFAULT_RULES,
    SEVERITIES,
    ServiceAlertRule,
    checked,
)
from actors.monitor.alerting.watch import RULE_CHANGED, RULE_DISABLED, RULE_REMOVED
from actors.monitor.metrics import METRICS
from actors.monitor.plain import plain, restored
from actors.monitor.reading import Reading
from infra.errors import RangeInvalid

NOW_S = 1_700_000_000.0


def reading(**values: Any) -> Reading:
    quiet: dict[str, Any] = {
        "at_s": NOW_S, "span_s": 30.0, "cpu_percent": 10.0, "service_cpu_percent": 10.0,
        "memory_percent": 40.0, "memory_used_mb": 4_000.0, "service_memory_mb": 900.0,
        "disk_usage_percent": 30.0, "avg_response_ms": None, "p95_response_ms": None,
        "error_rate_percent": None, "cache_hit_rate": None, "hit_rates": {},
        "active_connections": 0, "requests": 0, "failed": 0, "total_requests": 0,
        "total_failed": 0, "requests_per_second": 0.0, "event_loop_lag_ms": 1.0,
        "tasks_unfinished": 0, "tasks_ended": 0, "tasks_failed": 0, "haproxy_processes": 1,
    }  # fmt: skip
    return Reading(**(quiet | values))


def rule(**more: Any) -> ServiceAlertRule:
    values: dict[str, Any] = {
        "id": "slow", "name": "Slow", "metric_name": "api_response_time_ms", "condition": ">",
        "threshold": 100.0, "severity": "warning", "channels": ("log",),
    }  # fmt: skip
    return ServiceAlertRule(**(values | more))


class Watched:
    """An engine with a clock: `see` gives it values 30 s apart and returns what was told when."""

    def __init__(self, *rules: ServiceAlertRule) -> None:
        self.engine = AlertEngine(rules or (rule(),))
        self.now_s = NOW_S

    def see(self, *values: float | None, step_s: float = 30.0) -> list[tuple[float, str]]:
        told = []
        for value in values:
            happened = self.engine.look(reading(avg_response_ms=value), self.now_s)
            told += [(self.now_s - NOW_S, one.kind) for one in happened]
            self.now_s += step_s
        return told

    @property
    def alert(self) -> ServiceAlert:
        (alert,) = self.engine.active()
        return alert


# Rules


def test_the_default_rules_are_those_of_the_contract() -> None:
    quiet, loud = ("websocket", "log"), ("email", "websocket", "log")
    assert [
        (r.id, r.metric_name, r.condition, r.threshold, r.severity, r.channels, r.cooldown_minutes)
        for r in DEFAULT_RULES[:8]
    ] == [
        ("high_cpu_usage", "cpu_percent", ">", 80, "warning", quiet, 5),
        ("critical_cpu_usage", "cpu_percent", ">", 90, "critical", loud, 2),
        ("high_memory_usage", "memory_percent", ">", 85, "warning", quiet, 5),
        ("critical_memory_usage", "memory_percent", ">", 95, "critical", loud, 2),
        ("slow_api_response", "api_response_time_ms", ">", 1000, "warning", quiet, 10),
        ("very_slow_api_response", "api_response_time_ms", ">", 2000, "critical", loud, 5),
        ("low_cache_hit_rate", "cache_hit_rate", "<", 70, "warning", quiet, 15),
        ("high_error_rate", "error_rate_percent", ">", 5, "warning", quiet, 10),
    ]
    assert [r.duration_s for r in DEFAULT_RULES] == [60] * 4 + [0] * 5 + [120]
    assert [r.id for r in DEFAULT_RULES[8:]] == ["many_haproxy_processes", "slow_event_loop"]


@pytest.mark.parametrize("default", DEFAULT_RULES, ids=lambda r: r.id)
def test_a_default_rule_is_valid_and_survives_its_dict(default: ServiceAlertRule) -> None:
    assert checked(default) == default
    assert restored(ServiceAlertRule, json.loads(json.dumps(plain(default)))) == default
    assert default.description


def test_three_haproxy_processes_are_clear_again() -> None:
    (haproxy,) = (r for r in DEFAULT_RULES if r.metric_name == "haproxy_processes")
    assert (haproxy.is_met(4), haproxy.is_met(3), haproxy.is_clear(3)) == (True, False, True)


@pytest.mark.parametrize(
    ("change", "place", "allowed"),
    [
        ({"id": "Upper"}, "id", "[a-z0-9]"),
        ({"id": "a" * 65}, "id", "{0,63}"),
        ({"id": "a\n"}, "id", "[a-z0-9]"),
        ({"name": " "}, "name", "1 to 100"),
        ({"metric_name": "mood"}, "metric_name", "haproxy_processes"),
        ({"condition": "!="}, "condition", ">="),
        ({"severity": "fatal"}, "severity", "critical"),
        ({"channels": ()}, "channels", "apprise"),
        ({"channels": ("log", "sms")}, "channels", "webhook"),
        ({"threshold": math.nan}, "threshold", "finite"),
        ({"threshold": math.inf}, "threshold", "finite"),
        ({"threshold": "5"}, "threshold", "finite"),
        ({"threshold": True}, "threshold", "finite"),
        ({"cooldown_minutes": -1}, "cooldown_minutes", "0 to 1440"),
        ({"cooldown_minutes": 1440.5}, "cooldown_minutes", "0 to 1440"),
        ({"duration_s": 86_401}, "duration_s", "0 to 86400"),
        ({"enabled": "yes"}, "enabled", "true or false"),
        ({"clear_threshold": 101.0}, "clear_threshold", "at most the threshold, 100"),
        ({"condition": "<", "clear_threshold": 99.0}, "clear_threshold", "at least"),
        ({"condition": "==", "clear_threshold": 99.0}, "clear_threshold", "leave it out"),
        ({"clear_threshold": math.nan}, "clear_threshold", "finite"),
    ],
)
def test_a_rule_that_means_nothing_is_refused(
    change: dict[str, Any], place: str, allowed: str
) -> None:
    with pytest.raises(RangeInvalid) as refused:
        checked(rule(**change))
    assert refused.value.location == ("body", place)
    assert allowed in refused.value.reason


def test_what_a_rule_may_be_at_its_bounds() -> None:
    changes: tuple[dict[str, Any], ...] = (
        {"id": "a" * 64}, {"cooldown_minutes": 0}, {"cooldown_minutes": 1440},
        {"duration_s": 86_400}, {"channels": CHANNELS}, {"clear_threshold": 100.0},
        *({"condition": one} for one in CONDITIONS), *({"severity": one} for one in SEVERITIES),
    )  # fmt: skip
    for change in changes:
        assert checked(rule(**change)) == rule(**change)
    assert checked(rule(channels=("log", "log"))).channels == ("log",)


def test_a_body_that_is_no_rule_names_the_field() -> None:
    body = plain(rule())
    for wrong, place in (
        (body | {"mood": 1}, "mood"),
        ({k: v for k, v in body.items() if k != "severity"}, "severity"),
        (body | {"channels": "log"}, "channels"),
        (body | {"threshold": None}, "threshold"),
    ):
        with pytest.raises(ValidationError) as refused:
            restored(ServiceAlertRule, wrong)
        assert refused.value.errors()[0]["loc"] == (place,)


def test_every_metric_is_of_a_reading_and_has_words() -> None:
    assert all(hasattr(Reading, metric.field) and metric.words for metric in METRICS.values())


def test_a_message_has_value_unit_and_threshold() -> None:
    assert rule().sentence(1234.567) == ("The mean response time is 1,234.57 ms, above 100 ms.")
    assert rule(duration_s=60).sentence(200) == (
        "The mean response time is 200 ms, above 100 ms for at least 60 s."
    )
    hits = rule(metric_name="cache_hit_rate", condition="<=")
    assert hits.sentence(100) == "The hit rate of the caches is 100 %, at or below 100 %."
    assert rule().sentence(98) == "The mean response time is 98 ms, no longer above 100 ms."


@pytest.mark.parametrize(
    ("change", "clear", "neither", "met"),
    [
        ({}, 95.0, 95.1, 100.1),
        ({"condition": ">="}, 94.9, 95.0, 100.0),
        ({"condition": "<"}, 105.0, 104.9, 99.9),
        ({"condition": "<="}, 105.1, 105.0, 100.0),
        ({"threshold": -100.0}, -105.0, -104.9, -99.9),
        ({"clear_threshold": 50.0}, 50.0, 51.0, 100.1),
        # A share cannot be 5 % above 98 %.
        ({"metric_name": "cache_hit_rate", "condition": "<", "threshold": 98.0}, 99.0, 98.9, 97.9),
    ],
)
def test_between_met_and_clear_is_a_band(
    change: dict[str, Any], clear: float, neither: float, met: float
) -> None:
    found = rule(**change)
    assert [(found.is_met(v), found.is_clear(v)) for v in (clear, neither, met)] == [
        (False, True), (False, False), (True, False),
    ]  # fmt: skip


def test_equal_is_clear_when_it_is_not_equal() -> None:
    found = rule(condition="==")
    assert (found.is_met(100.0), found.is_clear(100.0)) == (True, False)
    assert (found.is_met(100.1), found.is_clear(100.1)) == (False, True)


# One alert


def test_a_condition_that_lasts_is_one_alert() -> None:
    watched = Watched()

    assert watched.see(50, *[200 + i for i in range(100)]) == [(30, "triggered")]

    alert = watched.alert
    assert alert.id == f"slow_{round(1_000 * (NOW_S + 30))}"
    assert (alert.current_value, alert.threshold, alert.repeats) == (299, 100, 0)
    assert alert.message == "The mean response time is 299 ms, above 100 ms."
    assert (alert.title, alert.severity, alert.triggered_at_s) == ("Slow", "warning", NOW_S + 30)


def test_it_must_hold_for_its_duration_without_a_break() -> None:
    watched = Watched(rule(duration_s=60))
    assert watched.see(200, 200, 98, 200, 200) == []  # a value in the band is a break too
    assert watched.see(200) == [(150, "triggered")]


def test_nothing_measured_neither_triggers_nor_resolves() -> None:
    watched = Watched()
    assert watched.see(*[None] * 5) == []
    assert watched.see(200) == [(150, "triggered")]
    assert watched.see(*[None] * 100) == []
    assert watched.alert.current_value == 200
    assert watched.see(math.nan) == []
    assert watched.alert.current_value == 200


def test_few_values_with_nothing_between_them_still_count() -> None:
    watched = Watched(rule(duration_s=60))
    assert watched.see(200, None, 200) == [(60, "triggered")]
    assert watched.see(50, None, 50) == [(150, "resolved")]


def test_a_long_time_without_values_is_a_break() -> None:
    watched = Watched(rule(duration_s=60))
    assert watched.see(200, *[None] * 10, 200, 200) == []
    assert watched.see(200) == [(390, "triggered")]
    assert watched.see(50, *[None] * 10, 50, 50) == []
    assert watched.see(50) == [(810, "resolved")]


def test_readings_that_are_far_apart_are_no_break() -> None:
    engine = AlertEngine([rule(duration_s=900)])
    told = [
        engine.look(reading(avg_response_ms=200.0, span_s=600.0), NOW_S + at_s)
        for at_s in (0, 600, 1_200)
    ]
    assert [len(one) for one in told] == [0, 0, 1]


def test_it_is_over_when_it_was_clear_for_long_enough() -> None:
    watched = Watched()
    watched.see(200)
    assert watched.see(96, 96, 96) == []  # in the band
    assert watched.see(95, 96, 95, step_s=29) == []  # the band broke it
    assert watched.see(95) == []  # 29 s
    assert [kind for _, kind in watched.see(95)] == ["resolved"]
    assert watched.engine.active() == []


def test_an_end_takes_as_long_as_the_duration_of_its_rule() -> None:
    watched = Watched(rule(duration_s=120))
    assert watched.see(*[200] * 5) == [(120, "triggered")]
    assert watched.see(*[50] * 5) == [(270, "resolved")]


def test_an_end_is_told_within_the_cool_down_and_says_why() -> None:
    watched = Watched(rule(cooldown_minutes=60))
    watched.see(200, 50)
    (ended,) = watched.engine.look(reading(avg_response_ms=40.0), watched.now_s)
    assert isinstance(ended, Resolved)
    assert ended.alert.resolved_at_s == NOW_S + 60
    assert ended.text == (
        "Over, after it began at 22:13:20 UTC: the condition cleared. "
        "The mean response time is 40 ms, no longer above 100 ms."
    )


def test_rules_do_not_mix() -> None:
    engine = AlertEngine(
        [rule(), rule(id="cpu", metric_name="cpu_percent"), rule(id="off", enabled=False)]
    )
    told = engine.look(reading(avg_response_ms=200.0, cpu_percent=101.0), NOW_S)
    assert [one.alert.rule_id for one in told] == ["slow", "cpu"]
    assert {alert.rule_id for alert in engine.active()} == {"slow", "cpu"}


def test_a_quiet_service_has_no_alert() -> None:
    engine = AlertEngine()
    assert [engine.look(reading(), NOW_S + 30 * i) for i in range(20)] == [[]] * 20


# Returns


def test_a_return_within_the_cool_down_is_the_same_alert_and_untold() -> None:
    watched = Watched(rule(cooldown_minutes=5))
    assert watched.see(200, 50, 50) == [(0, "triggered"), (60, "resolved")]

    assert watched.see(200) == []

    assert (watched.alert.id, watched.alert.repeats) == (f"slow_{round(1_000 * NOW_S)}", 1)
    assert watched.alert.resolved_at_s is None
    assert [alert.repeats for alert in watched.engine.changed] == [1]
    assert watched.see(50, 50) == []  # nobody was told that it was back
    assert [alert.resolved_at_s for alert in watched.engine.changed] == [NOW_S + 150]


def test_a_return_that_outlasts_the_cool_down_is_told() -> None:
    watched = Watched(rule(cooldown_minutes=5))
    watched.see(200, 50, 50)  # its end is told at 60 s
    assert watched.see(*[200] * 12) == [(360, "triggered")]
    assert watched.alert.repeats == 1
    assert watched.see(50, 50) == [(480, "resolved")]


def test_a_return_that_is_about_to_end_is_not_told() -> None:
    watched = Watched(rule(cooldown_minutes=2))
    watched.see(200, 50, 50, 200, 200, 200)  # its end is told at 60 s
    assert watched.see(98, 98, 50, 50) == []  # no longer met when the cool-down is over
    assert watched.engine.active() == []


def test_the_telling_of_a_return_says_so() -> None:
    watched = Watched(rule(cooldown_minutes=1))
    watched.see(200, 50, 50, 200)
    (told,) = watched.engine.look(reading(avg_response_ms=200.0), watched.now_s)
    assert isinstance(told, Triggered)
    assert told.text == "It is back, and stays. The mean response time is 200 ms, above 100 ms."


def test_a_return_after_the_cool_down_is_another_alert() -> None:
    watched = Watched(rule(cooldown_minutes=5))
    watched.see(200, 50, 50)
    assert watched.see(*[50] * 9, 200) == [(360, "triggered")]
    assert (watched.alert.id, watched.alert.repeats) == (f"slow_{round(1_000 * (NOW_S + 360))}", 0)


def test_a_flapping_condition_is_damped() -> None:
    watched = Watched(rule(cooldown_minutes=5))
    flap = [200.0, 50.0, 50.0]

    assert watched.see(*flap * 3) == [(0, "triggered"), (60, "resolved")]
    assert watched.see(*flap * 20) == [(270, "flapping")]  # the third return

    assert watched.alert.is_flapping
    assert watched.alert.repeats == 3
    assert watched.see(*[50] * 18) == []
    assert [kind for _, kind in watched.see(50)] == ["resolved"]  # clear for 600 s


def test_returns_that_are_far_apart_are_no_flapping() -> None:
    watched = Watched(rule(cooldown_minutes=60))
    for _ in range(5):
        told = watched.see(200, *[50] * 59)  # every half hour
        assert "flapping" not in [kind for _, kind in told]
    assert not watched.engine.state()["watches"]["slow"]["alert"]["is_flapping"]


def test_returns_of_an_earlier_alert_do_not_count() -> None:
    watched = Watched(rule(cooldown_minutes=5))
    flap = [200.0, 50.0, 50.0]
    watched.see(*flap * 3, *[50] * 10)  # two returns

    assert [kind for _, kind in watched.see(*flap * 2)] == ["triggered", "resolved"]

    alert = watched.engine.state()["watches"]["slow"]["alert"]
    assert (alert["repeats"], alert["is_flapping"]) == (1, False)


def test_flapping_is_told_once_of_an_alert() -> None:
    watched = Watched(rule(cooldown_minutes=120))
    flap = [200.0, 50.0, 50.0]
    watched.see(*flap * 4)
    assert [kind for _, kind in watched.see(*[50] * 22)] == ["resolved"]

    assert watched.see(*flap * 10) == []
    assert watched.see(*[50] * 120, 200) == []  # away for an hour, and back

    assert (watched.alert.repeats, watched.alert.is_flapping) == (5, True)


# Acknowledging


def test_an_acknowledged_alert_stays_active_and_its_end_is_told() -> None:
    watched = Watched()
    watched.see(200)
    alert_id = watched.alert.id

    alert = watched.engine.acknowledge(alert_id, NOW_S + 1)
    again = watched.engine.acknowledge(alert_id, NOW_S + 2)

    assert again == alert == watched.alert
    assert (alert.acknowledged, alert.acknowledged_at_s) == (True, NOW_S + 1)
    assert [kind for _, kind in watched.see(200, 50, 50)] == ["resolved"]


def test_acknowledging_what_is_not_active_is_refused() -> None:
    watched = Watched()
    with pytest.raises(KeyError):
        watched.engine.acknowledge("slow_1", NOW_S)
    watched.see(200)
    alert_id = watched.alert.id
    watched.see(50, 50)
    with pytest.raises(KeyError):
        watched.engine.acknowledge(alert_id, NOW_S)


def test_a_return_must_be_acknowledged_anew_and_is_then_not_escalated() -> None:
    watched = Watched(rule(cooldown_minutes=5))
    watched.see(200)
    watched.engine.acknowledge(watched.alert.id, NOW_S)
    watched.see(50, 50, 200)
    assert not watched.alert.acknowledged

    watched.engine.acknowledge(watched.alert.id, NOW_S)

    assert watched.see(*[200] * 50) == []
    assert watched.alert.acknowledged


# Rules that change


def test_a_disabled_rule_ends_its_alert_and_keeps_its_cool_down() -> None:
    watched = Watched()
    watched.see(200)

    (ended,) = watched.engine.put(rule(enabled=False), watched.now_s)

    assert isinstance(ended, Resolved)
    assert ended.alert.resolved_reason == RULE_DISABLED
    assert watched.engine.changed == (ended.alert,)
    assert watched.see(200, 200) == []
    assert watched.engine.put(rule(), watched.now_s) == []
    assert watched.see(200) == []
    assert watched.alert.repeats == 1


def test_a_removed_rule_ends_its_alert() -> None:
    watched = Watched()
    watched.see(200)
    (ended,) = watched.engine.remove("slow", watched.now_s)
    assert ended.alert.resolved_reason == RULE_REMOVED
    assert (watched.engine.rules(), watched.engine.state()) == ([], {"watches": {}})
    assert watched.see(200) == []
    with pytest.raises(KeyError):
        watched.engine.remove("slow", watched.now_s)


def test_a_rule_that_looks_at_something_else_ends_its_alert() -> None:
    watched = Watched()
    watched.see(200)
    (ended,) = watched.engine.put(rule(metric_name="p95_response_time"), watched.now_s)
    assert ended.alert.resolved_reason == RULE_CHANGED


def test_an_alert_goes_on_under_another_threshold() -> None:
    watched = Watched()
    watched.see(200)
    assert watched.engine.put(rule(threshold=150.0, severity="error"), watched.now_s) == []
    assert watched.see(200) == []
    assert (watched.alert.threshold, watched.alert.severity) == (150, "error")


def test_another_threshold_counts_its_duration_anew() -> None:
    watched = Watched(rule(duration_s=60))
    watched.see(200, 200)
    watched.engine.put(rule(duration_s=60, threshold=150.0), watched.now_s)
    assert watched.see(200, 200) == []
    assert watched.see(200) == [(120, "triggered")]


def test_a_rule_that_means_nothing_changes_nothing() -> None:
    engine = AlertEngine([rule()])
    with pytest.raises(RangeInvalid):
        engine.put(rule(severity="fatal"), NOW_S)
    assert engine.rules() == [rule()]


# Restarts


def test_a_restart_neither_tells_twice_nor_forgets() -> None:
    before = Watched()
    before.see(200)
    after = Watched()
    after.engine.restore(json.loads(json.dumps(before.engine.state())))
    after.now_s = before.now_s

    assert after.engine.active() == before.engine.active()
    assert after.see(200, 50, 50) == [(90, "resolved")]


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ([], RULE_REMOVED),
        ([rule(enabled=False)], RULE_DISABLED),
        ([rule(condition=">=")], RULE_CHANGED),
    ],
)
def test_a_rule_that_changed_over_a_restart_ends_its_alert(
    rules: list[ServiceAlertRule], reason: str
) -> None:
    before = Watched()
    before.see(200)
    engine = AlertEngine(rules)
    engine.restore(before.engine.state())

    (ended,) = engine.look(reading(), before.now_s)

    assert (ended.kind, ended.alert.resolved_reason) == ("resolved", reason)
    assert engine.look(reading(), before.now_s + 30) == []


def test_every_telling_has_a_notice_of_its_own_that_fits_the_store() -> None:
    alert = ServiceAlert("a" * 64 + "_1700000000", "a" * 64, "t", "m", "info", "x", 1, 1, NOW_S)
    told: list[Happening] = [
        kind(one)
        for kind in (Triggered, Resolved, Flapping)
        for one in (alert, replace(alert, repeats=1))
    ]
    ids = {one.notice_id for one in told}
    assert len(ids) == 6
    assert max(map(len, ids)) <= 64
    assert Triggered(replace(alert, current_value=9.0)).notice_id in ids


# Any sequence

RULES = (
    rule(id="now", cooldown_minutes=2),
    rule(id="lasting", duration_s=60, cooldown_minutes=5),
    rule(id="low", condition="<", threshold=90.0, cooldown_minutes=0),
    rule(id="same", condition="==", cooldown_minutes=60),
)
# Values of all zones, runs of them, and pauses around the spans that the engine counts.
looks = st.lists(
    st.tuples(
        st.sampled_from([None, 50.0, 94.0, 96.0, 100.0, 101.0, 200.0]),
        st.sampled_from([5.0, 15.0, 30.0, 31.0, 60.0, 130.0, 301.0, 700.0]),
        st.integers(1, 6),
    ),
    max_size=40,
)


def spread(found: Iterable[tuple[float | None, float, int]]) -> list[tuple[float, float | None]]:
    now_s, spread_out = NOW_S, []
    for value, step_s, times in found:
        for _ in range(times):
            now_s += step_s
            spread_out.append((now_s, value))
    return spread_out


def run(engine: AlertEngine, seen: Sequence[tuple[float, float | None]]) -> list[list[Happening]]:
    return [engine.look(reading(avg_response_ms=value), now_s) for now_s, value in seen]


@settings(deadline=None)
@given(looks)
def test_whatever_is_read_tellings_alternate_and_keep_the_cool_down(
    found: list[tuple[float | None, float, int]],
) -> None:
    engine = AlertEngine(RULES)
    cool_down_s = {one.id: one.cooldown_minutes * 60 for one in RULES}
    told: dict[str, tuple[Happening, float]] = {}
    notices = set()
    for now_s, value in spread(found):
        for one in engine.look(reading(avg_response_ms=value), now_s):
            rule_id = one.alert.rule_id
            before, before_s = told.get(rule_id, (None, -math.inf))
            is_end = isinstance(one, Resolved)
            assert is_end == isinstance(before, Triggered | Flapping)
            assert value is not None
            if isinstance(one, Triggered) and before is not None:
                assert now_s - before_s >= cool_down_s[rule_id]
            assert one.alert.is_active != is_end
            assert one.notice_id not in notices
            notices.add(one.notice_id)
            told[rule_id] = (one, now_s)
        active = [alert.rule_id for alert in engine.active()]
        assert len(active) == len(set(active))
        assert set(active) >= {
            rule_id for rule_id, (last, _) in told.items() if not isinstance(last, Resolved)
        }


@settings(deadline=None)
@given(looks, st.integers(0, 100))
def test_a_restart_anywhere_changes_nothing_of_what_follows(
    found: list[tuple[float | None, float, int]], cut: int
) -> None:
    seen = spread(found)
    steady, restarted = AlertEngine(RULES), AlertEngine(RULES)
    told = run(steady, seen)

    first = AlertEngine(RULES)
    run(first, seen[:cut])
    restarted.restore(json.loads(json.dumps(first.state())))

    assert run(restarted, seen[cut:]) == told[cut:]
    assert restarted.state() == steady.state()


@settings(deadline=None)
@given(looks)
def test_what_changed_tells_a_history_all_but_values(
    found: list[tuple[float | None, float, int]],
) -> None:
    engine = AlertEngine(RULES)
    kept: dict[str, ServiceAlert] = {}
    for now_s, value in spread(found):
        engine.look(reading(avg_response_ms=value), now_s)
        kept |= {alert.id: alert for alert in engine.changed}
        for alert in engine.active():
            known = replace(kept[alert.id], current_value=0.0, message="")
            assert known == replace(alert, current_value=0.0, message="")
        open_ids = {alert.id for alert in engine.active()}
        assert {alert.id for alert in kept.values() if alert.is_active} == open_ids
