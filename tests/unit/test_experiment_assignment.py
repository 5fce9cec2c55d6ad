"""Variants are dealt out as configured, and a client keeps its own."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from actors.monitor.experiments.assignment import Assigner, hashed, identifier
from actors.monitor.experiments.definition import EXCLUDED, Experiment, Variant

IDS = [f"client-{number}" for number in range(100_000)]


def experiment(id_: str, *shares: float, **changes: Any) -> Experiment:
    """A running test; the last variant is the control."""
    made = Experiment(
        id=id_,
        name="",
        description="",
        variants=tuple(
            Variant(f"v{index}", "", "", share, is_control=index == len(shares) - 1)
            for index, share in enumerate(shares)
        ),
        traffic_split_method="user_id",
        target_endpoints=("/*",),
        created_at_s=0.0,
        updated_at_s=0.0,
        status="running",
    )
    return replace(made, **changes)


def arms(test: Experiment, ids: list[str]) -> list[str]:
    assigner = Assigner([test])
    given = [assigner.variant_of(test, id_) for id_ in ids]
    return [variant.id for variant in given if variant]


@pytest.mark.parametrize("shares", [(50.0, 50.0), (10.0, 90.0), (1.5, 33.5, 65.0)])
def test_the_split_is_within_one_percent_of_the_traffic(shares: tuple[float, ...]) -> None:
    counts = Counter(arms(experiment("split", *shares), IDS))

    for index, share in enumerate(shares):
        assert abs(counts[f"v{index}"] / len(IDS) * 100 - share) < 1.0


def test_a_client_keeps_its_variant_in_every_process() -> None:
    given = arms(experiment("cache-1", 50.0, 50.0), IDS[:12])

    assert " ".join(given) == "v0 v0 v0 v1 v1 v1 v1 v1 v0 v0 v1 v0"


def test_tests_divide_clients_independently() -> None:
    pairs = Counter(
        zip(
            arms(experiment("one", 50.0, 50.0), IDS[:20_000]),
            arms(experiment("two", 50.0, 50.0), IDS[:20_000]),
            strict=True,
        )
    )

    assert all(abs(count - 5_000) < 300 for count in pairs.values())
    assert len(pairs) == 4


@pytest.mark.parametrize("treated", ["v0", "v1"])
def test_more_traffic_keeps_who_was_there(treated: str) -> None:
    before, after = (10.0, 90.0), (20.0, 80.0)
    if treated == "v1":
        before, after = before[::-1], after[::-1]

    small = arms(experiment("ramp", *before), IDS)
    large = arms(experiment("ramp", *after), IDS)

    first = {id_ for id_, arm in zip(IDS, small, strict=True) if arm == treated}
    then = {id_ for id_, arm in zip(IDS, large, strict=True) if arm == treated}
    assert first < then
    assert abs(len(then) / len(first) - 2) < 0.1


def test_whom_nothing_identifies_is_not_in_a_sticky_test() -> None:
    test = experiment("sticky", 50.0, 50.0)

    assert Assigner([test]).variant_of(test, "") is None


def test_a_random_split_deals_out_each_request() -> None:
    test = experiment("chance", 20.0, 80.0, traffic_split_method="random")
    assigner = Assigner([test], random.Random(7))

    drawn = [assigner.variant_of(test, "") for _ in range(20_000)]

    counts = Counter(variant.id for variant in drawn if variant)
    assert abs(counts["v0"] / 20_000 * 100 - 20) < 1.0
    assert counts.total() == 20_000
    again = Assigner([test], random.Random(7))
    assert [again.variant_of(test, "") for _ in range(50)] == drawn[:50]


def test_percentages_that_nearly_sum_to_100_leave_nobody_out() -> None:
    test = experiment("thirds", 33.33, 33.33, 33.33)

    assert len(arms(test, IDS)) == len(IDS)


@pytest.mark.parametrize(
    ("endpoint", "path", "expected"),
    [
        ("/api/v2/prices", "/api/v2/prices", True),
        ("/api/v2/prices", "/api/v2/prices/", False),
        ("/api/v2/prices", "/api/v2/pricesX", False),
        ("/a.b", "/axb", False),
        ("/prices/{symbol}", "/prices/AAPL", True),
        ("/prices/{symbol}", "/prices/^GSPC", True),
        ("/prices/{symbol}", "/prices/", False),
        ("/prices/{symbol}", "/prices/AAPL/bars", False),
        ("/prices/{symbol}/bars", "/prices/AAPL/bars", True),
        ("/prices/*", "/prices/AAPL/bars", True),
        ("/prices/*", "/prices", False),
        ("/{part}/*", "/prices/AAPL", True),
        ("/*", "/anything", True),
        ("/", "/", True),
        ("/", "/a", False),
    ],
)
def test_endpoints_match_whole_paths(endpoint: str, path: str, expected: bool) -> None:
    test = experiment("paths", 50.0, 50.0, target_endpoints=("/other", endpoint))

    assert Assigner([test]).matching(path) == ((test,) if expected else ())


def test_what_watches_the_service_is_in_no_test() -> None:
    assigner = Assigner([experiment("all", 50.0, 50.0)])

    paths = [*EXCLUDED, *(f"{prefix}/more" for prefix in EXCLUDED)]
    assert [path for path in paths if assigner.matching(path)] == []
    assert assigner.matching("/healthy")


def test_only_running_tests_match_and_in_their_order() -> None:
    one, two = experiment("one", 50.0, 50.0), experiment("two", 50.0, 50.0)
    draft = experiment("draft", 50.0, 50.0, status="draft")

    assert Assigner([two, draft, one]).matching("/a") == (two, one)


def test_paths_are_remembered_up_to_a_bound() -> None:
    test = experiment("bound", 50.0, 50.0)
    assigner = Assigner([test])

    for number in range(10_000):
        assert assigner.matching(f"/{number}") == (test,)

    assert 0 < len(assigner._known) <= 4_096


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("user_id", ["key", "key", "client", ""]),
        ("session_id", ["cookie", "key", "client", "cookie"]),
        ("custom_hash", ["client", "key", "client", "cookie"]),
        ("random", ["", "", "", ""]),
    ],
)
def test_each_method_knows_clients_in_its_own_order(method: str, expected: list[str]) -> None:
    known = [
        {"key_name": "key", "session_cookie": "cookie", "client_id": "client"},
        {"key_name": "key", "session_cookie": "", "client_id": ""},
        {"key_name": "", "session_cookie": "", "client_id": "client"},
        {"key_name": "", "session_cookie": "cookie", "client_id": ""},
    ]

    assert [identifier(method, **one) for one in known] == expected


def test_a_ledger_sees_no_names() -> None:
    assert hashed("cache-1", "alice") == "f42adbbef75ebe3d"
    assert hashed("cache-2", "alice") != hashed("cache-1", "alice")
    assert hashed("cache-1", "") == ""
