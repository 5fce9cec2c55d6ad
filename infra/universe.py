"""The symbols with a category and a name, and the thresholds of their price alerts."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Changes in percent at which a price is worth an alert; drops are negative."""

    price_rise_pct: float
    price_drop_pct: float
    drop_from_high_pct: float


@dataclass(frozen=True, slots=True)
class Universe:
    """Categories of symbols, their English names and their thresholds.

    `names`: category to symbol to name. `monitor_drop_from_high_pct` (negative) is the one drop
    from the high that holds for every symbol where prices are checked on request.
    """

    names: Mapping[str, Mapping[str, str]]
    default_thresholds: Thresholds
    category_thresholds: Mapping[str, Thresholds]
    monitor_drop_from_high_pct: float
    _category_of: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        pairs = {symbol: category for category in self.names for symbol in self.names[category]}
        object.__setattr__(self, "_category_of", pairs)

    @property
    def categories(self) -> tuple[str, ...]:
        """Return the categories, in the file's order."""
        return tuple(self.names)

    def symbols(self, category: str) -> tuple[str, ...]:
        """Return the symbols of a category, in the file's order; none if there is no such one."""
        return tuple(self.names.get(category, ()))

    def category(self, symbol: str) -> str | None:
        """Return the category of a symbol, or None."""
        return self._category_of.get(symbol)

    def name(self, symbol: str) -> str | None:
        """Return the English name of a symbol, or None."""
        category = self.category(symbol)
        return None if category is None else self.names[category][symbol]

    def thresholds(self, symbol: str) -> Thresholds:
        """Return the thresholds of the symbol's category, else the default ones."""
        category = self.category(symbol) or ""
        return self.category_thresholds.get(category, self.default_thresholds)


def load_universe() -> Universe:
    """Read the universe and the thresholds that come with the package."""
    limits = _read("thresholds.toml")
    return Universe(
        names=_read("universe.toml"),
        default_thresholds=Thresholds(**limits["default"]),
        category_thresholds={k: Thresholds(**v) for k, v in limits["category"].items()},
        monitor_drop_from_high_pct=limits["monitor"]["drop_from_high_pct"],
    )


def _read(file_name: str) -> dict[str, Any]:
    return tomllib.loads((DATA / file_name).read_text(encoding="utf-8"))
