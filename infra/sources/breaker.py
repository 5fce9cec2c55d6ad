"""A circuit breaker: an upstream that is down is left alone, then tried with one request."""

from __future__ import annotations

import logging
import random
from typing import Literal

logger = logging.getLogger(__name__)

BreakerState = Literal["closed", "open", "half_open"]

FAILURES_IN_ROW = 5
FIRST_OPEN_S = 10.0
LONGEST_OPEN_S = 300.0


class Breaker:
    """Closed, then open after 5 failures in a row, then half open: one probe decides.

    A row of failures that is all of one symbol says nothing of the upstream, and opens nothing.
    It stays open for 50 to 100 % (at random) of 10 s, of twice that after each probe that failed,
    of 300 s in the end. What was under way when it opened changes nothing.
    """

    def __init__(self, upstream: str, rng: random.Random) -> None:
        self._upstream = upstream
        self._rng = rng
        self._failures = 0  # in a row
        self._failed_of: set[str | None] = set()  # the symbols of that row
        self._open_s = FIRST_OPEN_S
        self._open_until_s: float | None = None
        self._is_probing = False

    def state(self, now_s: float) -> BreakerState:
        """Return the state at a monotonic time."""
        if self._open_until_s is None:
            return "closed"
        return "open" if now_s < self._open_until_s else "half_open"

    def closed_in_s(self, now_s: float) -> float | None:
        """Return in how many seconds a request may be made, 0 while a probe is under way.

        None if one may be made now.
        """
        if self._open_until_s is None:
            return None
        left_s = self._open_until_s - now_s
        return max(0.0, left_s) if left_s > 0 or self._is_probing else None

    def enter(self, now_s: float) -> bool:
        """Note a request that was not refused; return whether it is the probe."""
        self._is_probing = self.state(now_s) == "half_open"
        return self._is_probing

    def succeeded(self, is_probe: bool) -> None:
        """Note that the upstream answered."""
        if is_probe:
            self._open_until_s = None
            self._open_s = FIRST_OPEN_S
            logger.info("upstream.back", extra={"upstream": self._upstream})
        if self._open_until_s is None:
            self._failures = 0
            self._failed_of.clear()

    def failed(self, is_probe: bool, now_s: float, of: str | None) -> bool:
        """Note that it did not answer, or not with sense; return whether this opened it.

        `of`: the only symbol that was asked about, None for several or none.
        """
        if self._open_until_s is None:
            self._failures += 1
            self._failed_of.add(of)
            is_of_one = len(self._failed_of) == 1 and None not in self._failed_of
            opens = self._failures >= FAILURES_IN_ROW and not is_of_one
        else:
            opens = is_probe
        if opens:
            self._open(now_s)
        return opens

    def leave(self, is_probe: bool) -> None:
        """Note that the request is over, whatever came of it: another may be the probe."""
        if is_probe:
            self._is_probing = False

    def _open(self, now_s: float) -> None:
        open_s = self._open_s * self._rng.uniform(0.5, 1.0)
        self._open_until_s = now_s + open_s
        self._open_s = min(LONGEST_OPEN_S, self._open_s * 2)
        logger.warning("upstream.down", extra={"upstream": self._upstream, "open_s": open_s})
