"""The near cache never serves an older version than the hub has told of."""

from __future__ import annotations

import asyncio

from infra.clock import FakeClock
from infra.messages import DATA, Batch, Message, Position, Snapshot
from serve.edge.near import NearCache, Rendered
from tests.hub_messages import price

KEY = ("/a", b"period=1y")


def near(**limits: int) -> tuple[NearCache, FakeClock]:
    clock = FakeClock()
    cache = NearCache(
        limits.get("max_bytes", 100_000), limits.get("max_entries", 100), 5.0, clock.monotonic_s
    )
    cache.heard_s = clock.monotonic_s()
    return cache, clock


def answer(version: str, symbol: str = "AAPL", size: int = 10) -> Rendered:
    return Rendered(b"x" * size, symbol, version, "/route", b"no-cache")


def keep(cache: NearCache, raw: tuple[str, bytes], entry: Rendered) -> None:
    cache.keep(raw, entry)
    cache.alias(raw, raw)


def version_news(version: str, symbol: str = "AAPL") -> Message:
    body = b'{"symbol":"%b","data_version":"%b"}' % (symbol.encode(), version.encode())
    return Message(DATA + symbol, body)


def test_a_new_version_drops_the_answers_of_its_symbol_only() -> None:
    cache, _ = near()
    keep(cache, KEY, answer("v1"))
    keep(cache, ("/b", b""), answer("v1", "IBM"))

    cache.on_batch(Batch(Position("e", 1), (version_news("v2"),)))

    assert cache.lookup(*KEY) is None
    assert cache.lookup("/b", b"") is not None


def test_an_answer_that_was_overtaken_is_not_kept() -> None:
    cache, _ = near()
    cache.on_batch(Batch(Position("e", 1), (version_news("v2"),)))

    assert cache.keep(KEY, answer("v1")) is False
    assert cache.keep(KEY, answer("v2")) is True


def test_nothing_is_answered_when_the_hub_fell_silent() -> None:
    cache, clock = near()
    keep(cache, KEY, answer("v1"))

    clock.advance(4.9)
    heard = cache.lookup(*KEY)
    clock.advance(0.2)

    assert heard is not None
    assert cache.lookup(*KEY) is None


def test_a_snapshot_forgets_everything_and_takes_the_prices() -> None:
    cache, _ = near()
    keep(cache, KEY, answer("v1"))
    cache.on_snapshot(Snapshot(Position("e2", 9), ((8, version_news("v1")), (9, price(1.5)))))

    assert cache.lookup(*KEY) is None
    assert cache.bytes == 0
    told = cache.price("AAPL")
    assert told is not None
    assert told["current_price"] == 1.5
    assert cache.price("IBM") is None


def test_a_new_epoch_knows_no_price_of_the_one_before() -> None:
    cache, _ = near()
    cache.on_batch(Batch(Position("e", 1), (price(1.5),)))
    assert cache.price("AAPL") is not None

    cache.on_snapshot(Snapshot(Position("f", 0), ()))

    assert cache.price("AAPL") is None


def test_the_oldest_unused_answer_makes_room() -> None:
    cache, _ = near(max_entries=2)
    first, second, third = ("/1", b""), ("/2", b""), ("/3", b"")
    keep(cache, first, answer("v1"))
    keep(cache, second, answer("v1"))
    cache.alias(first, first)

    keep(cache, third, answer("v1"))

    assert cache.lookup(*first) is not None
    assert cache.lookup(*second) is None
    assert cache.bytes == 2 * answer("v1").size_bytes


def test_two_spellings_of_a_question_share_one_answer() -> None:
    cache, _ = near(max_entries=1)
    cache.keep("question", answer("v1"))
    cache.alias(("/a", b"x=1&y=2"), "question")
    cache.alias(("/a", b"y=2&x=1"), "question")

    assert cache.lookup("/a", b"x=1&y=2") is cache.lookup("/a", b"y=2&x=1")
    assert cache.bytes == answer("v1").size_bytes
    for n in range(100):
        cache.alias(("/a", b"%d" % n), "question")
    assert len(cache._aliases) <= 2


def test_with_no_room_at_all_nothing_is_kept() -> None:
    assert near(max_bytes=0)[0].keep(KEY, answer("v1")) is False
    assert near(max_entries=0)[0].keep(KEY, answer("v1")) is False


async def test_a_thousand_simultaneous_misses_make_one_call() -> None:
    cache, _ = near()
    gate, calls = asyncio.Event(), 0

    async def make() -> str:
        nonlocal calls
        calls += 1
        await gate.wait()
        return "made"

    waiting = [asyncio.create_task(cache.once("k", make)) for _ in range(1_000)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # one client hangs up; the others still get their answer
    gate.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)

    assert calls == 1
    assert results[1:] == ["made"] * 999
    assert await cache.once("k", make) == "made"
    assert calls == 2


def test_the_zipped_form_is_made_once_and_says_its_length() -> None:
    entry = answer("v1", size=5_000)

    zipped = entry.zip()

    assert entry.zip() is zipped
    assert (b"content-length", str(len(zipped)).encode()) in entry.headers_zipped
    assert (b"content-encoding", b"gzip") in entry.headers_zipped
