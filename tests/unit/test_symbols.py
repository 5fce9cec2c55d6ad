"""Symbols have one spelling, and a mistyped one finds its neighbour."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import SymbolUnknown
from infra.symbols import nearest, normalise

KNOWN = ("AAPL", "GOOGL", "IBM", "META", "MSFT", "^GSPC", "^IXIC")


def normalised_or_error(text: str) -> str | SymbolUnknown:
    """Return what `normalise` answers, its error included."""
    try:
        return normalise(text)
    except SymbolUnknown as error:
        return error


@pytest.mark.parametrize(
    ("text", "symbol"),
    [
        ("AAPL", "AAPL"),
        (" aapl\n", "AAPL"),
        ("^gspc", "^GSPC"),
        ("es=f", "ES=F"),
        ("dx-y.nyb", "DX-Y.NYB"),
        ("A" * 20, "A" * 20),
    ],
)
def test_a_symbol_is_written_in_capitals_without_space_around(text: str, symbol: str) -> None:
    assert normalise(text) == symbol


@pytest.mark.parametrize(
    "text", ["", "  ", "A" * 21, "A B", "AAPL;", "../etc", "AAPL\x00", "\u00df", "\u017f", "A/B"]
)
def test_what_cannot_be_a_symbol_is_not_known(text: str) -> None:
    with pytest.raises(SymbolUnknown) as caught:
        normalise(text)

    assert caught.value.status_code == 404


@given(text=st.text(max_size=100))
def test_any_text_gives_a_symbol_or_a_short_printable_error(text: str) -> None:
    answer = normalised_or_error(text)

    if isinstance(answer, SymbolUnknown):
        assert len(answer.symbol) <= 40
        assert answer.symbol.isprintable()
        assert answer.message.isprintable()
    else:
        assert re.fullmatch(r"[A-Z0-9^=.-]{1,20}", answer)
        assert normalise(answer) == answer


def test_control_characters_do_not_reach_the_message() -> None:
    with pytest.raises(SymbolUnknown) as caught:
        normalise("A\x1b[31m\r\nB\u202e" + "C" * 50)

    assert caught.value.symbol == "A[31mB" + "C" * 34


@pytest.mark.parametrize(
    ("text", "symbol"),
    [("APPL", "AAPL"), ("GOOG", "GOOGL"), ("GSPC", "^GSPC"), ("IXIC", "^IXIC"), ("MSTF", "MSFT")],
)
def test_a_mistyped_symbol_finds_its_neighbour_first(text: str, symbol: str) -> None:
    assert nearest(text, KNOWN)[0] == symbol


def test_nothing_is_near_to_what_looks_like_none() -> None:
    assert nearest("ZZZZ", KNOWN) == []
    assert nearest("AAPL", ()) == []


@given(known=st.lists(st.sampled_from(("AA", "AB", "AC", "AD", "AE")), unique=True))
def test_equals_are_alphabetical_and_no_more_than_asked_for(known: list[str]) -> None:
    assert nearest("AX", known, count=2) == sorted(known)[:2]
