"""The symbols that the feed keeps in files, as it and a start read them."""

from __future__ import annotations

from pathlib import Path

import orjson

from infra.files import read_whole


def read_monitored(file: Path) -> tuple[str, ...] | None:
    """Return the monitored set that was saved, None if none was; raises ConfigError."""
    mend = "put a backup in its place, or remove it to begin with the first set"
    return read_whole(file, _monitored_of, mend)


def read_pins(file: Path) -> dict[str, bool]:
    """Return what was pinned, and what of it has live indicators too; raises ConfigError."""
    return read_whole(file, _pins_of, "remove it, and pin again what shall be streamed") or {}


def _monitored_of(saved: bytes) -> tuple[str, ...]:
    symbols = orjson.loads(saved)["symbols"]
    if not isinstance(symbols, list) or not all(isinstance(one, str) for one in symbols):
        raise ValueError("its symbols are no list of names")
    return tuple(symbols)


def _pins_of(saved: bytes) -> dict[str, bool]:
    pins: dict[str, bool] = orjson.loads(saved)
    if not all(isinstance(is_live, bool) for is_live in pins.values()):
        raise ValueError("its values are not all true or false")
    return pins
