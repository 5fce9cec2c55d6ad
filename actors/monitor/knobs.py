"""The settings that are tuned while the service runs, and a change of them."""

from __future__ import annotations

from dataclasses import dataclass

CACHE_SHARES = (0.2, 2.0)


TTL_FACTORS = (0.5, 4.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """Settings that are tuned while the service runs.

    `cache_share` multiplies the sizes of caches, 0.2 to 2; `ttl_factor` their lifetimes, 0.5 to
    4. `batch_ms`: how long the hub collects. `task_at_once`: tasks in flight. `prefetch`: symbols
    whose answers are made before they are asked for. Raises ValueError for what cannot be.
    """

    cache_share: float = 1.0
    ttl_factor: float = 1.0
    batch_ms: float
    task_at_once: int
    prefetch: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check("cache_share", self.cache_share, *CACHE_SHARES)
        _check("ttl_factor", self.ttl_factor, *TTL_FACTORS)
        _check("batch_ms", self.batch_ms, 0, 1_000)
        _check("task_at_once", self.task_at_once, 1, 256)


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low:g} to {high:g}, got {value!r}")


@dataclass(frozen=True, slots=True)
class Trigger:
    """A metric that stays beyond its limit, with its newest value."""

    metric: str
    value: float
    limit: float


@dataclass(frozen=True, slots=True)
class Change:
    """Settings as they were and as they are to be.

    `needs_rules`: optimisation rules that are to be on, of those that are not. `is_forced`: for
    five poor readings in a row. `sheds_memory`: caches are purged and halved at once.
    """

    at_s: float
    before: Knobs
    after: Knobs
    reason: str
    triggers: tuple[Trigger, ...]
    needs_rules: tuple[str, ...] = ()
    is_forced: bool = False
    sheds_memory: bool = False

    @property
    def name(self) -> str:
        """The name of the alert that tells of it."""
        return "force_auto_tuning_completed" if self.is_forced else "auto_tuning_completed"
