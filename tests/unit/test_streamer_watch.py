"""The parts of the streamer that need no connection: backoff, silence, subscriptions, buffer."""

from __future__ import annotations

import json
import math
import random

import pytest

from infra.clock import FakeClock
from infra.sources.yahoo.streamer import Back, Backoff, Lost, Pending, QuietWatch, Subscriptions

LEAST_S = 10.0
Item = tuple[str, int]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def watch(clock: FakeClock) -> QuietWatch:
    return QuietWatch(clock.monotonic_s(), LEAST_S, gaps=5.0)


def hear(watch: QuietWatch, clock: FakeClock, gap_s: float, times: int) -> None:
    for _ in range(times):
        clock.advance(gap_s)
        watch.note(clock.monotonic_s())


def pending(limit: int) -> Pending[Item]:
    return Pending(lambda tick: tick[0], limit)


# -- backoff --------------------------------------------------------------------------------


def test_delays_lie_between_zero_and_a_ceiling_that_doubles_up_to_the_cap() -> None:
    ceilings = [0.5, 1, 2, 4, 8, 16, 30, 30, 30]

    runs = [[backoff.next_s() for _ in ceilings] for backoff in map(fresh_backoff, range(500))]

    for ceiling_s, delays in zip(ceilings, zip(*runs, strict=True), strict=True):
        assert 0 <= min(delays) < 0.05 * ceiling_s
        assert 0.95 * ceiling_s < max(delays) <= ceiling_s


def test_after_a_reset_the_delays_are_short_again() -> None:
    backoff = fresh_backoff(1)
    for _ in range(10):
        backoff.next_s()

    backoff.reset()

    assert backoff.next_s() <= 0.5


def fresh_backoff(seed: int) -> Backoff:
    return Backoff(random.Random(seed), 0.5, 30.0)


# -- silence --------------------------------------------------------------------------------


def test_a_busy_stream_is_quiet_after_the_least_span(watch: QuietWatch, clock: FakeClock) -> None:
    hear(watch, clock, gap_s=0.01, times=1000)

    clock.advance(LEAST_S - 0.1)
    assert not watch.is_quiet(clock.monotonic_s())

    clock.advance(0.2)
    assert watch.is_quiet(clock.monotonic_s())


def test_a_slow_stream_is_given_five_of_its_usual_gaps(
    watch: QuietWatch, clock: FakeClock
) -> None:
    hear(watch, clock, gap_s=20.0, times=200)

    clock.advance(99.0)
    assert not watch.is_quiet(clock.monotonic_s())

    clock.advance(2.0)
    assert watch.is_quiet(clock.monotonic_s())


def test_bursts_do_not_hide_the_pauses_between_them(watch: QuietWatch, clock: FakeClock) -> None:
    for _ in range(50):
        clock.advance(60.0)
        hear(watch, clock, gap_s=0.0, times=100)

    assert watch.usual_gap_s == pytest.approx(60.0, rel=0.01)


def test_the_usual_gap_follows_a_stream_that_grows_busy(
    watch: QuietWatch, clock: FakeClock
) -> None:
    hear(watch, clock, gap_s=60.0, times=50)

    hear(watch, clock, gap_s=1.0, times=1800)

    assert watch.span_s == LEAST_S


def test_an_excused_silence_is_given_the_same_span_again(
    watch: QuietWatch, clock: FakeClock
) -> None:
    clock.advance(LEAST_S)
    watch.excuse(clock.monotonic_s())

    clock.advance(LEAST_S - 1)
    assert not watch.is_quiet(clock.monotonic_s())

    clock.advance(1)
    assert watch.is_quiet(clock.monotonic_s())


def test_an_excused_silence_still_counts_as_a_gap(watch: QuietWatch, clock: FakeClock) -> None:
    watch.note(clock.monotonic_s())
    clock.advance(40.0)
    watch.excuse(clock.monotonic_s())

    hear(watch, clock, gap_s=20.0, times=1)

    assert watch.usual_gap_s == pytest.approx(60 * (1 - math.exp(-60 / 300)))


def test_an_outage_is_no_gap_and_leaves_the_usual_one(watch: QuietWatch, clock: FakeClock) -> None:
    hear(watch, clock, gap_s=5.0, times=500)
    usual_s = watch.usual_gap_s

    clock.advance(3600.0)
    watch.reconnected(clock.monotonic_s())
    watch.note(clock.monotonic_s())

    assert watch.usual_gap_s == usual_s
    assert watch.left_s(clock.monotonic_s()) == pytest.approx(5 * usual_s)


def test_a_night_is_forgotten(watch: QuietWatch, clock: FakeClock) -> None:
    hear(watch, clock, gap_s=600.0, times=20)

    watch.forget(clock.monotonic_s())

    assert watch.left_s(clock.monotonic_s()) == LEAST_S


# -- subscriptions --------------------------------------------------------------------------


def told(messages: list[str]) -> list[dict[str, list[str]]]:
    return [json.loads(message) for message in messages]


def test_only_differences_are_sent() -> None:
    subscriptions = Subscriptions()

    first = subscriptions.change(frozenset({"B", "A"}))
    same = subscriptions.change(frozenset({"A", "B"}))
    other = subscriptions.change(frozenset({"C", "B"}))

    assert told(first) == [{"subscribe": ["A", "B"]}]
    assert same == []
    assert told(other) == [{"unsubscribe": ["A"]}, {"subscribe": ["C"]}]


def test_a_renewal_holds_all_that_is_subscribed() -> None:
    subscriptions = Subscriptions()
    subscriptions.change(frozenset({"A", "B"}))
    subscriptions.change(frozenset({"B", "C"}))

    assert json.loads(subscriptions.renewal()) == {"subscribe": ["B", "C"]}


# -- the buffer -----------------------------------------------------------------------------


def test_what_fits_is_taken_whole_and_in_order() -> None:
    buffer = pending(limit=100)
    ticks = [("AB"[number % 2], number) for number in range(100)]
    for tick in ticks:
        buffer.put(tick)

    assert buffer.take() == tuple(ticks)
    assert buffer.take() == ()
    assert buffer.conflated == 0


def test_beyond_the_limit_the_latest_tick_of_each_symbol_stays() -> None:
    buffer = pending(limit=10)
    ticks = [("ABC"[number % 3], number) for number in range(1000)]
    for tick in ticks:
        buffer.put(tick)
        assert len(buffer) <= 10

    taken = buffer.take()

    assert taken[-3:] == tuple(ticks[-3:])
    assert list(taken) == sorted(taken, key=lambda tick: ticks.index(tick))  # type: ignore[arg-type]
    assert buffer.conflated == 1000 - len(taken)


def test_more_symbols_than_the_limit_all_keep_their_latest_tick() -> None:
    buffer = pending(limit=10)
    for number in range(1000):
        buffer.put((f"S{number % 50}", number))
        assert len(buffer) <= 100

    last = dict(item for item in buffer.take() if isinstance(item, tuple))

    assert last == {f"S{number % 50}": number for number in range(950, 1000)}


def test_a_conflated_return_covers_the_ones_before_it() -> None:
    buffer = pending(limit=4)
    symbols = frozenset({"A"})
    for at_ns in (10, 20, 30):
        buffer.put(Lost(at_ns, "mute"))
        buffer.put(Back(at_ns - 5, at_ns + 5, symbols))
        buffer.put(("A", at_ns))

    assert buffer.take() == (
        Lost(30, "mute"),
        Back(5, 35, symbols),
        ("A", 30),
    )


def test_the_limit_holds_again_once_everything_was_taken() -> None:
    buffer = pending(limit=10)
    for number in range(100):
        buffer.put((f"S{number}", number))
    buffer.take()

    for number in range(11):
        buffer.put(("A", number))

    assert buffer.take() == (("A", 10),)


async def test_the_one_who_waits_is_woken_by_the_first_item() -> None:
    buffer = pending(limit=4)
    buffer.put(("A", 1))

    await buffer.wait()

    assert buffer.take() == (("A", 1),)
