"""The symbols with a category and a name, and the thresholds of their price alerts."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from infra.errors import ConfigError

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
    symbol_thresholds: Mapping[str, Thresholds]
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
        """Return the thresholds of the symbol, else of its category, else the default ones."""
        own = self.symbol_thresholds.get(symbol)
        if own is not None:
            return own
        category = self.category(symbol) or ""
        return self.category_thresholds.get(category, self.default_thresholds)


def load_universe(thresholds_file: Path | None = None) -> Universe:
    """Read the universe and the thresholds that come with the package.

    `thresholds_file`, of the same form, goes before them, value by value. Raises ConfigError for
    one that cannot be read so.
    """
    packaged, own = _read(DATA / "thresholds.toml"), _own(thresholds_file)
    default = _limits(own.get("default", {}), packaged["default"])
    categories = packaged["category"] | {
        name: packaged["category"].get(name, asdict(default)) | given
        for name, given in own.get("category", {}).items()
    }
    names = _read(DATA / "universe.toml")
    category_of = {symbol: category for category in names for symbol in names[category]}
    symbols = {
        symbol: _limits(given, categories.get(category_of.get(symbol, ""), asdict(default)))
        for symbol, given in own.get("symbol", {}).items()
    }
    return Universe(
        names=names,
        default_thresholds=default,
        category_thresholds={k: Thresholds(**v) for k, v in categories.items()},
        symbol_thresholds=symbols,
        monitor_drop_from_high_pct=packaged["monitor"]["drop_from_high_pct"],
    )


def _own(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        found = _read(path)
        tables = [found.get("default", {}), *found.get("category", {}).values()]
        for table in [*tables, *found.get("symbol", {}).values()]:
            _check(table)
    except OSError as error:
        raise ConfigError(f"FINSTAGE_THRESHOLDS_FILE: {path}: {error.strerror}") from None
    except (ValueError, AttributeError) as error:  # of TOML's form, or ours
        raise ConfigError(f"FINSTAGE_THRESHOLDS_FILE: {path}: {error}") from None
    return found


def _check(table: dict[str, Any]) -> None:
    names = [f.name for f in fields(Thresholds)]
    for name, value in table.items():
        if name not in names:
            raise ValueError(f"{name} is no threshold; there are {', '.join(names)}")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or (value > 0) is not (name == "price_rise_pct"):
            sign = "above" if name == "price_rise_pct" else "below"
            raise ValueError(f"{name} must be a number {sign} 0, got {value!r}")


def _limits(given: dict[str, Any], others: dict[str, Any]) -> Thresholds:
    return Thresholds(**(others | given))


def _read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))
