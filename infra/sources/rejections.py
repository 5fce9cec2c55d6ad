"""What an upstream sent that makes no sense: counted always, said once a minute."""

from __future__ import annotations

import logging
from collections import Counter

from infra.clock import Clock
from infra.metrics import UPSTREAM_REJECTED

logger = logging.getLogger(__name__)

SAY_EVERY_S = 60.0


class Rejections:
    """Counts rejected data of one upstream by kind; logs each kind at most once a minute."""

    def __init__(self, upstream: str, clock: Clock) -> None:
        self._upstream = upstream
        self._clock = clock
        self._unsaid: Counter[str] = Counter()
        self._said_at_s: dict[str, float] = {}

    def count(self, kind: str, detail: str = "", number: int = 1) -> None:
        """Count `number` rejections of a kind."""
        UPSTREAM_REJECTED.labels(self._upstream, kind).inc(number)
        self._unsaid[kind] += number
        now_s = self._clock.monotonic_s()
        said_at_s = self._said_at_s.get(kind)
        if said_at_s is None or now_s - said_at_s >= SAY_EVERY_S:
            self._said_at_s[kind] = now_s
            facts = {"upstream": self._upstream, "kind": kind, "number": self._unsaid.pop(kind)}
            logger.warning("upstream.rejected", extra=facts | {"detail": detail[:200]})
