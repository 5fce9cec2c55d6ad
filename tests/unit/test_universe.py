"""The universe names every symbol once, and each has thresholds."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from infra.errors import ConfigError
from infra.sources.replay import load_records
from infra.universe import Thresholds, load_universe

UNIVERSE = load_universe()


def test_the_categories_are_those_documented() -> None:
    assert UNIVERSE.categories == (
        "index", "futures", "stock", "etf_long", "etf_short", "rates",
        "dollar", "volatility", "commodity", "sector_etf", "credit", "global",
    )  # fmt: skip


def test_each_symbol_has_one_category_and_a_name() -> None:
    symbols = [s for category in UNIVERSE.categories for s in UNIVERSE.symbols(category)]

    assert len(symbols) == len(set(symbols)) == 57
    for category in UNIVERSE.categories:
        for symbol in UNIVERSE.symbols(category):
            assert UNIVERSE.category(symbol) == category
            assert UNIVERSE.name(symbol)
            assert re.fullmatch(r"[A-Z0-9^=.-]{1,20}", symbol)


def test_all_that_the_replay_ships_is_named() -> None:
    assert all(UNIVERSE.name(symbol) for symbol in load_records())
    assert UNIVERSE.name("AAPL") == "Apple Inc."
    assert UNIVERSE.category("^GSPC") == "index"


def test_an_unknown_symbol_or_category_is_no_error() -> None:
    assert UNIVERSE.category("ZZZZ") is None
    assert UNIVERSE.name("ZZZZ") is None
    assert UNIVERSE.symbols("nothing") == ()


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        ("^GSPC", Thresholds(1.0, -1.0, -2.0)),
        ("ES=F", Thresholds(5.0, -5.0, -10.0)),
        ("AAPL", Thresholds(3.0, -3.0, -5.0)),
        ("TQQQ", Thresholds(3.0, -3.0, -5.0)),
        ("SQQQ", Thresholds(3.0, -3.0, -5.0)),
        ("GC=F", Thresholds(3.0, -3.0, -10.0)),
        ("ZZZZ", Thresholds(3.0, -3.0, -10.0)),
    ],
)
def test_a_category_goes_before_the_default(symbol: str, expected: Thresholds) -> None:
    assert UNIVERSE.thresholds(symbol) == expected


def test_a_file_goes_before_what_comes_with_the_package(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        "[symbol.AAPL]\nprice_rise_pct = 1.5\n[symbol.ZZZZ]\nprice_drop_pct = -9\n"
        "[category.index]\ndrop_from_high_pct = -5.0\n[default]\nprice_drop_pct = -4.0\n"
    )
    mine = load_universe(path)

    assert mine.thresholds("AAPL") == Thresholds(1.5, -3.0, -5.0)
    assert mine.thresholds("MSFT") == Thresholds(3.0, -3.0, -5.0)
    assert mine.thresholds("^GSPC") == Thresholds(1.0, -1.0, -5.0)
    assert mine.thresholds("ZZZZ") == Thresholds(3.0, -9, -10.0)
    assert mine.thresholds("YYYY") == Thresholds(3.0, -4.0, -10.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[default]\nprice_rise = 1", "price_rise is no threshold"),
        ("[symbol.AAPL]\nprice_rise_pct = -1", "must be a number above 0, got -1"),
        ("[category.index]\nprice_drop_pct = 'low'", "must be a number below 0"),
        ("[default]\nprice_drop_pct = 1", "must be a number below 0"),
        ("symbol = 3", "thresholds"),
        ("[default", "mine.toml"),
    ],
)
def test_a_file_that_is_none_stops_the_start(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="FINSTAGE_THRESHOLDS_FILE") as caught:
        load_universe(path)
    assert said.lower() in str(caught.value).lower()
    with pytest.raises(ConfigError, match="No such file"):
        load_universe(tmp_path / "none.toml")


def test_thresholds_belong_to_categories_that_exist() -> None:
    assert set(UNIVERSE.category_thresholds) <= set(UNIVERSE.categories)
    assert UNIVERSE.monitor_drop_from_high_pct == -10.0


def test_the_universe_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        UNIVERSE.names = {}  # type: ignore[misc]
