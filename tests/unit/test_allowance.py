"""A client may say so much a second, and a burst."""

from __future__ import annotations

from serve.ws.allowance import Allowance


def test_a_burst_is_let_through_and_then_so_many_a_second() -> None:
    allowance = Allowance(2.0, 5.0, 100.0)

    assert [allowance.take(100.0) for _ in range(6)] == [True] * 5 + [False]
    assert [allowance.take(101.0) for _ in range(3)] == [True, True, False]
    assert [allowance.take(1_000.0) for _ in range(6)] == [True] * 5 + [False]
