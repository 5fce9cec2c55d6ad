"""Bars are columns of one length that nobody changes."""

from __future__ import annotations

import pickle
from datetime import date

import numpy as np
import pytest

from infra.bars import NS_PER_DAY, Bars


def some_bars(count: int, first_day: int = 15_000) -> Bars:
    """Return bars of consecutive days whose columns all differ."""
    rows = np.arange(count)
    open_ = np.arange(10.0, 10.0 + count, dtype=np.float64)
    return Bars(
        (first_day + rows) * NS_PER_DAY, open_, open_ + 2, open_ - 2, open_ + 1, 100 + rows
    )


def test_columns_cannot_be_written() -> None:
    bars = some_bars(3)

    for part in (bars, bars[1:], bars[np.array([0, 2])], Bars.concat(bars, bars)):
        for name in Bars.__slots__:
            with pytest.raises(ValueError, match="read-only"):
                getattr(part, name)[0] = 1


def test_rows_are_taken_by_slice_mask_and_number() -> None:
    bars = some_bars(4)

    assert bars[1:3].volume.tolist() == [101, 102]
    assert bars[bars.close > 12].volume.tolist() == [102, 103]
    assert bars[np.array([3, 0])].volume.tolist() == [103, 100]
    assert len(bars[4:]) == 0


def test_two_are_put_one_after_the_other() -> None:
    both = Bars.concat(some_bars(2), some_bars(1, first_day=15_002))

    assert len(both) == 3
    assert both.opened_at_ns.tolist() == [day * NS_PER_DAY for day in (15_000, 15_001, 15_002)]
    assert both.low.tolist() == [8.0, 9.0, 8.0]


def test_no_bars_have_the_types_of_bars() -> None:
    empty = Bars.empty()

    assert len(empty) == 0
    assert {name: getattr(empty, name).dtype for name in Bars.__slots__} == {
        name: getattr(some_bars(1), name).dtype for name in Bars.__slots__
    }
    assert Bars.concat(empty, some_bars(2)).close.tolist() == some_bars(2).close.tolist()


@pytest.mark.parametrize("day", [date(1969, 12, 31), date(1970, 1, 1), date(2012, 8, 29)])
def test_a_session_is_the_date_at_midnight_utc(day: date) -> None:
    bars = some_bars(1, first_day=(day - date(1970, 1, 1)).days)

    assert bars.session(0) == day


def test_bars_survive_a_process_border_and_stay_read_only() -> None:
    again = pickle.loads(pickle.dumps(some_bars(3)))

    assert again.close.tolist() == some_bars(3).close.tolist()
    assert not again.close.flags.writeable
