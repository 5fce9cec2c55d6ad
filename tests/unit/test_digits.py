"""Whole numbers that others wrote: ASCII digits, within 64 bits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.digits import MOST, whole_number


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", " 1", "1.0", "\u00b2", "\u0661", "1_0", "9" * 5_000]
)
def test_what_is_no_number_is_none(text: str) -> None:
    assert whole_number(text) is None


@given(st.integers(0, 2**70))
def test_numbers_within_64_bits_are_read(number: int) -> None:
    assert whole_number(str(number)) == (number if number <= MOST else None)


@given(st.text())
def test_any_text_is_a_number_or_none(text: str) -> None:
    number = whole_number(text)
    assert number is None or 0 <= number <= MOST
