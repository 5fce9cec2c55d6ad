"""A/B tests as defined: what cannot be run is refused, and states follow one another."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from actors.monitor.experiments.definition import (
    Experiment,
    Variant,
    checked,
    experiment_from,
    moved,
)
from actors.monitor.plain import plain
from infra.errors import MonitorConflict, RangeInvalid

KNOWN = ("caching", "websocket_streaming")
REQUEST_SCOPED = ("caching",)


def variants(*shares: float, controls: int = 1) -> tuple[Variant, ...]:
    return tuple(
        Variant(f"v{index}", "", "", share, is_control=index < controls)
        for index, share in enumerate(shares)
    )


def experiment(**changes: Any) -> Experiment:
    made = Experiment(
        id="cache-1",
        name="Cache",
        description="",
        variants=variants(50.0, 50.0),
        traffic_split_method="user_id",
        target_endpoints=("/api/v2/prices/{symbol}",),
        created_at_s=100.0,
        updated_at_s=100.0,
    )
    return replace(made, **changes)


def with_rule(rule: str) -> tuple[Variant, ...]:
    control, other = variants(50.0, 50.0)
    return control, replace(other, optimization_rules=(rule,))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"variants": variants(33.33, 33.33, 33.33)},
        {"variants": variants(99.99, 0.02)},
        {"variants": variants(*[12.5] * 8)},
        {"variants": with_rule("caching")},
        {"traffic_split_method": "random"},
        {"target_endpoints": ("/", "/api/*", "/*", "/a/{symbol}/b/{name}", "/api/tasks/")},
        {"target_endpoints": ("/healthy", "/api/v2/alerts-of-mine")},
        {"min_sample_size": 10, "confidence_level": 0.8},
        {"min_sample_size": 1_000_000, "confidence_level": 0.999},
        {"success_metrics": ("success_rate",)},
    ],
)
def test_what_can_be_run_is_returned_as_it_is(changes: dict[str, Any]) -> None:
    given = experiment(**changes)

    assert checked(given, KNOWN, REQUEST_SCOPED) is given


@pytest.mark.parametrize(
    ("changes", "place", "reason"),
    [
        ({"id": ".hidden"}, ("id",), "is not an id"),
        ({"id": "a" * 65}, ("id",), "1 to 64"),
        ({"id": "a\n"}, ("id",), "is not an id"),
        ({"variants": variants(100.0)}, ("variants",), "1 given, of 2 to 8"),
        ({"variants": variants(*[100 / 9] * 9)}, ("variants",), "9 given"),
        ({"variants": variants(50.0, 49.98)}, ("variants",), "sum to 99.98"),
        ({"variants": variants(50.0, 50.02)}, ("variants",), "sum to 100.02"),
        ({"variants": variants(50.0, 50.0, controls=0)}, ("variants",), "0 are the control"),
        ({"variants": variants(50.0, 50.0, controls=2)}, ("variants",), "2 are the control"),
        (
            {"variants": variants(100.0, 0.0)},
            ("variants", 1, "traffic_percentage"),
            "0.0 is not at least",
        ),
        (
            {"variants": variants(float("nan"), 50.0)},
            ("variants", 0, "traffic_percentage"),
            "nan",
        ),
        ({"variants": variants(50.0, float("inf"))}, ("variants",), "sum to inf"),
        ({"variants": variants(50.0, 50.0)[:1] * 2}, ("variants", 1, "id"), "twice"),
        (
            {"variants": with_rule("magic")},
            ("variants", 1, "optimization_rules", 0),
            "there is no optimisation rule 'magic'",
        ),
        (
            {"variants": with_rule("websocket_streaming")},
            ("variants", 1, "optimization_rules", 0),
            "acts on whole processes",
        ),
        ({"traffic_split_method": "ip_address"}, ("traffic_split_method",), "HAProxy"),
        ({"traffic_split_method": "coin"}, ("traffic_split_method",), "'coin' is not one of"),
        ({"target_endpoints": ()}, ("target_endpoints",), "0 given"),
        ({"target_endpoints": ("/a",) * 51}, ("target_endpoints",), "51 given"),
        ({"target_endpoints": ("/a", "b")}, ("target_endpoints", 1), "'b' is not a path"),
        ({"target_endpoints": ("",)}, ("target_endpoints", 0), "not a path"),
        ({"target_endpoints": ("/a*",)}, ("target_endpoints", 0), "not a path"),
        ({"target_endpoints": ("/*/a",)}, ("target_endpoints", 0), "not a path"),
        ({"target_endpoints": ("/a{b}",)}, ("target_endpoints", 0), "not a path"),
        ({"target_endpoints": ("/a?b=1",)}, ("target_endpoints", 0), "not a path"),
        ({"target_endpoints": ("/" + "a" * 200,)}, ("target_endpoints", 0), "not a path"),
        ({"target_endpoints": ("/health",)}, ("target_endpoints", 0), "never takes part"),
        ({"target_endpoints": ("/api/v2/alerts/*",)}, ("target_endpoints", 0), "never takes"),
        ({"min_sample_size": 9}, ("min_sample_size",), "9 is not within 10"),
        ({"min_sample_size": 1_000_001}, ("min_sample_size",), "not within"),
        ({"confidence_level": 0.79}, ("confidence_level",), "0.79 is not within"),
        ({"confidence_level": 1.0}, ("confidence_level",), "not within"),
        ({"confidence_level": float("nan")}, ("confidence_level",), "not within"),
        ({"success_metrics": ("luck",)}, ("success_metrics", 0), "'luck' is not one of"),
    ],
)
def test_what_cannot_be_run_is_refused_where_it_is_wrong(
    changes: dict[str, Any], place: tuple[str | int, ...], reason: str
) -> None:
    with pytest.raises(RangeInvalid) as refused:
        checked(experiment(**changes), KNOWN, REQUEST_SCOPED)

    assert refused.value.location == ("body", *map(str, place))
    assert reason in refused.value.reason


def test_a_test_is_started_paused_resumed_and_completed() -> None:
    run = moved(experiment(), "started", 200.0)
    held = moved(run, "paused", 300.0)
    again = moved(held, "resumed", 400.0)
    done = moved(again, "completed", 500.0)

    assert [one.status for one in (run, held, again, done)] == [
        "running",
        "paused",
        "running",
        "completed",
    ]
    assert (done.started_at_s, done.ended_at_s, done.updated_at_s) == (200.0, 500.0, 500.0)


@pytest.mark.parametrize("status", ["running", "paused"])
def test_a_stopped_test_says_why_and_when(status: str) -> None:
    ended = moved(experiment(status=status), "stopped", 300.0, "errors rose")

    assert (ended.status, ended.stop_reason, ended.ended_at_s) == ("stopped", "errors rose", 300.0)


@pytest.mark.parametrize(
    ("to", "allowed"),
    [
        ("started", {"draft"}),
        ("paused", {"running"}),
        ("resumed", {"paused"}),
        ("completed", {"running", "paused"}),
        ("stopped", {"running", "paused"}),
    ],
)
def test_other_moves_are_refused(to: str, allowed: set[str]) -> None:
    for status in {"draft", "running", "paused", "completed", "stopped"} - allowed:
        with pytest.raises(MonitorConflict, match=f"'cache-1' is {status}"):
            moved(experiment(status=status), to, 1.0)


def test_a_test_comes_back_from_json_as_it_was() -> None:
    control, other = with_rule("caching")
    given = moved(
        experiment(
            variants=(control, replace(other, custom_config={"ttl_s": 5, "of": ["a"]})),
            success_metrics=("response_time",),
        ),
        "started",
        200.0,
    )

    body = plain(given)

    assert json.loads(json.dumps(body)) == body
    assert experiment_from(json.loads(json.dumps(body))) == given


def test_no_success_metrics_means_both() -> None:
    assert experiment().metrics == ("response_time", "success_rate")
    assert experiment(success_metrics=("success_rate",)).metrics == ("success_rate",)
