"""What the hub told of new data, so that nothing older is given."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple


class Mark(NamedTuple):
    """A place in the hub's sequence: nothing before it is missing in what was made after it."""

    epoch: str
    offset: int


ALWAYS = Mark("", 0)


class Changes:
    """The hub's offset of the newest data of each symbol, as this process heard of it.

    Until `on_news` was called once, or where nothing follows a hub, only lifetimes end an entry.
    After that, silence of more than `lease_s` seconds means that nothing is known: what depends on
    a symbol is neither given nor kept.
    """

    def __init__(self, lease_s: float = 5.0, now_s: Callable[[], float] = time.monotonic) -> None:
        self.mark = ALWAYS
        self.lease_s = lease_s
        self._now_s = now_s
        self._heard_s: float | None = None
        self._offsets: dict[str, int] = {}

    @property
    def follows(self) -> bool:
        """Return whether a hub is followed."""
        return self._heard_s is not None

    @property
    def is_sure(self) -> bool:
        """Return whether what is held can be told from what is old."""
        return self._heard_s is None or self._now_s() - self._heard_s <= self.lease_s

    def follow(self) -> None:
        """Trust nothing until the hub is heard."""
        self._heard_s = float("-inf")

    def part(self) -> None:
        """Follow nothing any more; what was kept under the hub's word is not given again."""
        self._heard_s = None
        self.mark = Mark("parted", 0)
        self._offsets.clear()

    def on_news(self, mark: Mark, offsets: Mapping[str, int]) -> None:
        """Take the symbols that changed up to `mark`; of a new epoch, all of them."""
        if mark.epoch != self.mark.epoch:
            self._offsets = dict(offsets)
        else:
            self._offsets.update(offsets)
        self.mark = mark
        self._heard_s = self._now_s()

    def holds(self, symbols: Iterable[str], mark: Mark) -> bool:
        """Return whether what was made at `mark` from the data of `symbols` is still true."""
        if mark.epoch != self.mark.epoch or not self.is_sure:
            return False
        offsets = self._offsets
        return all(offsets.get(symbol, 0) <= mark.offset for symbol in symbols)
