"""Whole numbers that others wrote."""

from __future__ import annotations

MOST = 2**63 - 1  # what a column of the store holds, and a number of orjson
_LONGEST = len(str(MOST))


def whole_number(text: str) -> int | None:
    """Return a number from 0 to 2^63 - 1 written in ASCII digits; None for anything else.

    `str.isdigit` takes more than `int` does, and `int` refuses thousands of digits.

    >>> whole_number("12"), whole_number("²"), whole_number("-1")
    (12, None, None)
    """
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST):
        return None
    number = int(text)
    return number if number <= MOST else None
