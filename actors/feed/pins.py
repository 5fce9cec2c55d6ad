"""Symbols that are streamed until somebody says stop, whoever listens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import orjson

from actors.feed.core import check_room
from infra.files import write_atomically
from infra.saved_symbols import read_pins


class Pins:
    """Pinned symbols, and which of them have live indicators too.

    State: hard, a file that is written before a change is; each change raises StoreError. At most
    `limit`.
    """

    def __init__(self, file: Path, limit: int) -> None:
        self._file = file
        self._limit = limit
        self._is_live = read_pins(file)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return all that are pinned, in the order in which they were."""
        return tuple(self._is_live)

    @property
    def live(self) -> tuple[str, ...]:
        """Return those that have live indicators too."""
        return tuple(symbol for symbol, is_live in self._is_live.items() if is_live)

    def add(self, symbols: Sequence[str], is_live: bool) -> None:
        """Pin symbols; raises RangeInvalid, and changes nothing, if those were too many."""
        grown = dict(self._is_live)
        for symbol in symbols:
            grown[symbol] = is_live or grown.get(symbol, False)
        check_room(grown, self._limit)
        self._save(grown)

    def clear(self) -> None:
        """Let all of them go."""
        self._save({})

    def _save(self, pins: dict[str, bool]) -> None:
        write_atomically(self._file, orjson.dumps(pins))
        self._is_live = pins
