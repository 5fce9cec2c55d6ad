"""What every process is to do differently from now on: rules that are off, levels, sizes.

The monitor decides, the CacheActor hands it out with its answers to reports, so a change is
everywhere within two seconds. A process that heard nothing yet does what the settings say.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

logger = logging.getLogger(__name__)

MEMORY_BASIC = "memory_optimization_basic"
TECHNICAL_CACHE = "caching_technical_analysis"
PRICE_CACHE = "caching_price_data"
ASYNC_ENDPOINTS = "async_api_endpoints"
BACKGROUND = "background_heavy_tasks"
CONFLATION = "websocket_streaming"


@dataclass(frozen=True, slots=True)
class Directives:
    """One decision about everything; `number` grows with each.

    `watches`: the monitor looks, and answers from memory are timed. `off`: optimisation rules
    that are off. `log_level`: instead of the settings' where not empty.
    `cache_share`, `ttl_factor`: factors on the sizes and lifetimes of caches. `batch_ms`,
    `task_at_once`: in place of the settings' where not None. `experiments`: A/B tests that run,
    as JSON has them. `prefetch`: symbols whose indicators replicas ask for as they change.
    """

    number: str = ""
    watches: bool = True
    off: frozenset[str] = frozenset()
    log_level: str = ""
    cache_share: float = 1.0
    ttl_factor: float = 1.0
    batch_ms: float | None = None
    task_at_once: int | None = None
    experiments: tuple[dict[str, Any], ...] = field(default=())
    prefetch: tuple[str, ...] = ()


Follower = Callable[[Directives], None]

_off_here: ContextVar[frozenset[str] | None] = ContextVar("finstage_off", default=None)


class Following:
    """The directives that this process follows."""

    def __init__(self) -> None:
        self.now = Directives()
        self.is_plain = True  # nothing is off, and no A/B test runs: most need not ask further
        self._followers: list[Follower] = []

    def follow(self, follower: Follower) -> None:
        """Call `follower` with every change, and at once if there was one."""
        self._followers.append(follower)
        if self.now.number:
            follower(self.now)

    def unfollow(self, follower: Follower) -> None:
        """Call it no more."""
        self._followers.remove(follower)

    def take(self, directives: Directives) -> None:
        """Follow these from now on; a follower that fails keeps none of the others from it."""
        if directives.number == self.now.number:
            return
        self.now = directives
        self.is_plain = not (directives.off or directives.experiments)
        for follower in tuple(self._followers):
            try:
                follower(directives)
            except Exception:  # of one follower: what it would have changed stays as it was
                logger.exception("directives.not_followed")

    def is_on(self, rule: str) -> bool:
        """Return whether a rule is on, for the request at hand where an A/B test says so."""
        if self.is_plain:
            return True
        off = _off_here.get()
        return rule not in (self.now.off if off is None else off)


following = Following()


def is_on(rule: str) -> bool:
    """Return whether an optimisation rule is on in this process, or for this request."""
    return following.is_on(rule)


@contextmanager
def with_rules_off(off: frozenset[str]) -> Iterator[None]:
    """Let exactly these rules be off for what runs within: the request of an A/B test."""
    token = _off_here.set(off)
    try:
        yield
    finally:
        _off_here.reset(token)
