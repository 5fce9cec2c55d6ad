"""The hub's sequence: every message once, in order, or the word that some are gone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.hub.core import HubCore
from infra.clock import FakeClock
from infra.errors import EpochChanged, OffsetGone
from infra.messages import (
    Batch,
    Message,
    Position,
    packed,
    packed_batch,
    stamped,
    unpacked,
    unpacked_batch,
)


def hub(history_bytes: int = 2**20, history_s: float = 120.0) -> tuple[HubCore, FakeClock]:
    clock = FakeClock()
    return HubCore("e1", history_bytes, history_s, clock.monotonic_s), clock


def message(number: int, topic: str = "prices:A") -> Message:
    return Message(topic, b'{"n":%d}' % number)


def test_offsets_count_from_one_without_a_hole() -> None:
    core, _ = hub()

    position = core.publish([message(1), message(2)])
    batch = core.after(Position("e1", 0))

    assert position == Position("e1", 2)
    assert batch.first_offset == 1
    assert [m.payload for m in batch.messages] == [b'{"n":1}', b'{"n":2}']


def test_a_reader_of_another_epoch_is_told() -> None:
    core, _ = hub()

    with pytest.raises(EpochChanged):
        core.after(Position("e0", 0))
    with pytest.raises(EpochChanged):
        core.after(Position("e1", 7))


def test_a_new_run_is_a_new_epoch_that_remembers_nothing() -> None:
    core, _ = hub()
    core.publish([message(1)])

    core.start_over("e2")

    assert core.snapshot().messages == ()
    assert core.publish([message(2)]) == Position("e2", 1)
    with pytest.raises(EpochChanged):
        core.after(Position("e1", 1))


def test_an_offset_that_left_the_history_is_gone_not_skipped() -> None:
    core, clock = hub(history_s=10.0)
    core.publish([message(1)])
    clock.advance(11)
    core.publish([message(2)])

    with pytest.raises(OffsetGone) as caught:
        core.after(Position("e1", 0))

    assert caught.value.oldest == 2
    assert [m.payload for m in core.after(Position("e1", 1)).messages] == [b'{"n":2}']


def test_history_is_bounded_in_bytes_and_the_count_is_true() -> None:
    core, clock = hub(history_bytes=5_000)

    for number in range(1_000):
        core.publish([message(number)])
    assert core.history_bytes <= 5_000
    clock.advance(1_000)
    core.publish([])

    assert core.history_bytes == 0


def test_the_snapshot_has_the_last_message_of_each_topic_at_its_offset() -> None:
    core, _ = hub()
    core.publish([message(1, "a"), message(2, "b"), message(3, "a")])

    snapshot = core.snapshot()

    assert snapshot.position == Position("e1", 3)
    assert {m.topic: (offset, m.payload) for offset, m in snapshot.messages} == {
        "a": (3, b'{"n":3}'),
        "b": (2, b'{"n":2}'),
    }


def test_a_stamp_is_the_first_two_members() -> None:
    assert stamped(message(1), "e1", 9) == b'{"epoch":"e1","offset":9,"n":1}'


@given(
    st.lists(
        st.one_of(
            st.integers(1, 5).map(lambda n: ("publish", n)),
            st.integers(1, 4).map(lambda n: ("read", n)),
            st.integers(0, 40).map(lambda n: ("wait", n)),
        ),
        max_size=60,
    )
)
def test_a_reader_misses_nothing_unless_it_is_told(steps: list[tuple[str, int]]) -> None:
    core, clock = hub(history_bytes=3_000, history_s=60.0)
    position, sent, seen = Position("e1", 0), 0, 0
    for step, number in steps:
        if step == "publish":
            core.publish([message(sent + i + 1) for i in range(number)])
            sent += number
        elif step == "wait":
            clock.advance(number)
        else:
            try:
                batch = core.after(position, most=number)
            except OffsetGone:
                position = core.snapshot().position
                seen = position.offset
                continue
            assert [m.payload for m in batch.messages] == [
                b'{"n":%d}' % n for n in range(seen + 1, seen + 1 + len(batch.messages))
            ]
            position, seen = batch.position, seen + len(batch.messages)
    assert position.offset == seen


@given(
    st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=50)), max_size=20),
    st.integers(0, 2**60),
)
def test_messages_travel_as_they_are(pairs: list[tuple[str, bytes]], offset: int) -> None:
    messages = tuple(Message(*pair) for pair in pairs)
    batch = Batch(Position("e1", offset), messages)

    assert unpacked(packed(messages)) == messages
    assert unpacked_batch(packed_batch(batch)) == batch
