"""What processes are told changes real code paths: sizes, lifetimes, answers, frames, levels."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from infra.caches.catalogue import CacheSpec
from infra.caches.named import NamedCaches
from infra.directives import (
    CONFLATION,
    MEMORY_BASIC,
    TECHNICAL_CACHE,
    Directives,
    following,
    is_on,
    with_rules_off,
)
from infra.frames import optimize_dataframe_memory
from infra.logs import follow_level, setup_logs
from serve.edge.near import NearCache, Rendered
from serve.ws.frames import Frame
from serve.ws.outbox import LATEST, Outbox, Taking

ROUTE = "/api/v2/technical-analysis/indicators/{symbol}"
PRICES = "/api/v2/prices/{symbol}/history"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    following.take(Directives(number="as-before"))


def told(**changes: object) -> Directives:
    directives = replace(Directives(number=str(changes)), **changes)  # type: ignore[arg-type]
    following.take(directives)
    return directives


def test_a_follower_that_fails_keeps_none_of_the_others_from_it() -> None:
    seen: list[str] = []

    def fails(_: Directives) -> None:
        raise RuntimeError("no")

    following.follow(fails)
    following.follow(lambda directives: seen.append(directives.number))
    try:
        told(log_level="DEBUG")
        told(log_level="DEBUG")  # the same number again is no news
    finally:
        following.unfollow(fails)
    assert len([number for number in seen if "DEBUG" in number]) == 1


def test_a_request_of_an_ab_test_has_rules_of_its_own() -> None:
    assert is_on(TECHNICAL_CACHE)
    told(off=frozenset({MEMORY_BASIC}))
    with with_rules_off(frozenset({TECHNICAL_CACHE})):
        assert (is_on(TECHNICAL_CACHE), is_on(MEMORY_BASIC)) == (False, True)
    assert (is_on(TECHNICAL_CACHE), is_on(MEMORY_BASIC)) == (True, False)


def test_caches_take_factors_and_give_them_back() -> None:
    caches = NamedCaches()
    caches.configure([CacheSpec("mine", 1_000, 600.0)])
    near = caches.named("mine").near
    bytes_before = near.max_bytes

    caches.follow(Directives("1", cache_share=0.5, ttl_factor=1.5))
    assert (near.max_entries, near.max_bytes, near.ttl_s) == (500, bytes_before // 2, 900.0)
    caches.follow(Directives("2", cache_share=0.05, ttl_factor=10.0))
    assert (near.max_entries, near.ttl_s) == (100, 3_600.0)
    later = caches.named("made_after").near
    assert later.max_entries >= 50
    caches.follow(Directives("3"))
    assert (near.max_entries, near.max_bytes, near.ttl_s) == (1_000, bytes_before, 600.0)


def near_cache() -> NearCache:
    near = NearCache(2**20, 100, 5.0, lambda: 0.0)
    near.heard_s = 0.0
    return near


def entry(route: str) -> Rendered:
    return Rendered(b"{}", "AAPL", "v1", route, b"no-cache")


def test_answers_of_a_cache_that_is_off_are_neither_given_nor_kept() -> None:
    near = near_cache()
    near.keep("ta", entry(ROUTE))
    near.keep("price", entry(PRICES))

    told(off=frozenset({TECHNICAL_CACHE}))
    assert near.find("ta") is None
    assert near.find("price") is not None
    assert not near.keep("another", entry(ROUTE))
    following.take(Directives("on again"))
    assert near.find("ta") is not None


def test_the_near_cache_shrinks_with_its_share() -> None:
    near = near_cache()
    for number in range(100):
        near.keep(number, entry(ROUTE))
    near.follow(Directives("1", cache_share=0.2))
    assert len(near) == 20
    near.follow(Directives("2"))
    near.keep("more", entry(ROUTE))
    assert len(near) == 21


def test_frames_keep_their_types_while_the_rule_is_off() -> None:
    frame = pd.DataFrame({"n": [1, 2, 3]})
    smaller = optimize_dataframe_memory(lambda: frame)
    assert smaller()["n"].dtype == "int8"
    told(off=frozenset({MEMORY_BASIC}))
    assert smaller() is frame


def frame_at(offset: int) -> Frame:
    return Frame(b"x" * 100, b"", offset)


def test_without_conflation_every_frame_goes_until_too_much_waits() -> None:
    latest = Taking(LATEST)
    outbox = Outbox(limit_bytes=450)
    for offset in (1, 2):
        outbox.put("prices:A", frame_at(offset), latest)
    assert [f.offset for f in outbox.take(lambda: 0.0)] == [2]

    told(off=frozenset({CONFLATION}))
    for offset in range(3, 10):
        outbox.put("prices:A", frame_at(offset), latest)
    sent = [f.offset for f in outbox.take(lambda: 0.0)]
    assert sent == [3, 4, 5, 6, 9]  # four fit, then the newest takes the place of those before
    assert not outbox.is_slow
    outbox.put("prices:A", frame_at(10), Taking(LATEST, max_rate_hz=1.0))
    outbox.put("prices:A", frame_at(11), Taking(LATEST, max_rate_hz=1.0))
    assert [f.offset for f in outbox.take(lambda: 0.0)] == [11]


def test_levels_change_and_go_back(tmp_path: Path) -> None:
    setup_logs(tmp_path, "test", "WARNING")
    logger = logging.getLogger("actors")
    try:
        follow_level(Directives("1", log_level="DEBUG"))
        assert logger.level == logging.DEBUG
        follow_level(Directives("2"))
        assert logger.level == logging.WARNING
    finally:
        for name in ("finstage", "infra", "actors", "pipelines", "serve"):
            one = logging.getLogger(name)
            one.handlers, one.propagate = [], True
            one.setLevel(logging.NOTSET)
