"""Which task runs next: by priority, by age, by what it waits for."""

from __future__ import annotations

import random

import pytest

from pipelines.queue.core import Backlog, Entry
from pipelines.submission import Condition, Dependencies, TaskPriority

NORMAL = TaskPriority.NORMAL


def entry(number: int, priority: int = NORMAL, available_s: float = 0.0) -> Entry:
    return Entry(str(number), number, "f", "m:f", priority, 3, 1.0, None, 0.0, available_s)


def drained(book: Backlog, now_s: float, most: int = 1_000) -> list[str]:
    """Run everything that is ready, one at a time; return the order."""
    order: list[str] = []
    while len(order) < most and (claimed := book.claim(1, now_s)):
        book.noted(claimed)
        running = book.next_to_run()
        assert running is claimed[0]
        order.append(running.id)
        book.end(running)
    return order


def test_priority_first_then_the_order_of_arrival() -> None:
    book = Backlog()
    for number, priority in enumerate((3, 2, 0, 2, 1, 0)):
        book.add(entry(number, priority), 0.0)

    assert drained(book, 1.0) == ["2", "5", "4", "1", "3", "0"]


def test_low_is_not_starved_by_a_stream_of_high() -> None:
    book = Backlog(ageing_s=60.0)
    book.add(entry(0, TaskPriority.LOW), 0.0)
    order: list[str] = []
    for number in range(1, 40):
        book.add(entry(number, TaskPriority.HIGH), 100.0)
        order += drained(book, 100.0, most=1)

    # one start in eight goes to who waited longest, once that is over the age
    assert "0" in order[:8]
    assert order.index("0") > 0


def test_what_is_young_does_not_age() -> None:
    book = Backlog(ageing_s=60.0)
    book.add(entry(0, TaskPriority.LOW), 0.0)
    for number in range(1, 40):
        book.add(entry(number, TaskPriority.HIGH), 1.0)

    assert drained(book, 59.0)[-1] == "0"


def test_a_delayed_task_waits_for_its_time() -> None:
    book = Backlog()
    book.add(entry(0, available_s=10.0), 0.0)

    assert book.claim(5, 9.9) == []
    assert book.wake(9.9) == 10.0
    assert [e.id for e in book.claim(5, 10.0)] == ["0"]
    assert book.wake(10.0) == float("inf")


def test_what_could_not_be_noted_is_claimed_again_in_the_same_order() -> None:
    book = Backlog()
    for number in range(3):
        book.add(entry(number), 0.0)

    claimed = book.claim(2, 0.0)
    assert book.next_to_run() is None  # not before it is noted
    book.unclaim(claimed, 0.0)

    assert drained(book, 0.0) == ["0", "1", "2"]


def test_what_is_urgent_does_not_wait_for_what_was_claimed_ahead() -> None:
    book = Backlog()
    for number in range(64):
        book.add(entry(number, TaskPriority.LOW), 0.0)
    book.noted(book.claim(64, 0.0))
    book.add(entry(64, TaskPriority.LOW), 0.0)
    assert book.claim_urgent(4) == []
    book.add(entry(65, TaskPriority.HIGH), 0.0)
    urgent = book.claim_urgent(4)
    assert [e.id for e in urgent] == ["65"]
    book.noted(urgent)

    running = book.next_to_run()
    assert running is urgent[0]


def test_a_task_waits_for_those_before_it() -> None:
    book = Backlog()
    first, second, last = entry(0), entry(1), entry(2)
    last.needs = Dependencies(("0", "1", "gone"))
    book.add(first, 0.0)
    book.add(second, 0.0)
    book.add(last, 0.0, last.needs.on)

    assert last.stage == "blocked"
    assert book.end(first) == []
    assert book.end(second) == [last]
    book.unblock(last, 0.0)
    assert drained(book, 0.0) == ["2"]


def test_pauses_grow_and_are_random() -> None:
    book = Backlog(draws=random.Random(7))
    failing = entry(0)
    for tries, longest_s in ((1, 1.0), (2, 2.0), (3, 4.0), (40, 3_600.0)):
        failing.tries = tries
        pauses = [book.pause_s(failing) for _ in range(200)]
        assert 0.0 <= min(pauses) < 0.1 * longest_s
        assert 0.9 * longest_s < max(pauses) <= longest_s


def test_tries_lost_with_the_service_do_not_lengthen_the_pause() -> None:
    book = Backlog()
    failing = entry(0)
    failing.tries, failing.losses = 9, 8
    assert max(book.pause_s(failing) for _ in range(100)) <= 1.0


def test_unique_keys_are_free_once_the_task_has_ended() -> None:
    book = Backlog()
    first = entry(0)
    first.unique_key = "k"
    book.add(first, 0.0)

    assert book.of_key("k") == "0"
    book.end(first)
    assert book.of_key("k") is None


@pytest.mark.parametrize("seed", range(20))
def test_of_any_history_each_task_runs_once_and_nothing_is_left(seed: int) -> None:
    draws, book, now_s, ran, number = random.Random(seed), Backlog(), 0.0, [], 0
    live: list[Entry] = []
    for _ in range(400):
        now_s += draws.random()
        what = draws.random()
        if what < 0.4:
            new = entry(number, draws.randrange(4), now_s + draws.choice((0, 0, 3)))
            number += 1
            before = [e.id for e in draws.sample(live, min(len(live), draws.randrange(3)))]
            new.needs = Dependencies(tuple(before)) if before else None
            book.add(new, now_s, before)
            live.append(new)
        elif what < 0.6:
            claimed = book.claim(draws.randrange(1, 5), now_s)
            (book.unclaim(claimed, now_s) if draws.random() < 0.3 else book.noted(claimed))
        elif (running := book.next_to_run()) is not None:
            if draws.random() < 0.2:
                book.again(running, now_s + draws.random(), now_s)
                continue
            ran.append(running.id)
            live.remove(running)
            for free in book.end(running):
                book.unblock(free, now_s)
    while live:
        now_s += 5.0
        book.noted(book.claim(10, now_s))
        while (running := book.next_to_run()) is not None:
            ran.append(running.id)
            live.remove(running)
            for free in book.end(running):
                book.unblock(free, now_s)

    assert sorted(ran, key=int) == [str(n) for n in range(number)], f"seed {seed}"
    assert len(book) == 0
    assert {s: n for s, n in book.stages.items() if n and s != "ended"} == {}


@pytest.mark.parametrize(
    ("field", "op", "value", "holds"),
    [
        ("signals.rsi", "==", "oversold", True),
        ("signals.rsi", "!=", "oversold", False),
        ("signals.macd", "exists", None, False),
        ("count", ">", 2, True),
        ("count", "<", "text", False),
        ("count", "in", [1, 3], True),
        ("", "==", 5, False),
    ],
)
def test_conditions_read_results(field: str, op: str, value: object, holds: bool) -> None:
    result = {"signals": {"rsi": "oversold"}, "count": 3}
    assert Condition(field, op, value).holds(result) is holds


def test_needs_survive_the_store() -> None:
    needs = Dependencies(("a", "b"), "settled", "list", Condition("x.y", ">", 1.5), True)
    assert Dependencies.of_json(needs.as_json()) == needs
