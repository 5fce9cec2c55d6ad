"""What an A/B test is: its variants, where it applies, and the states it goes through."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from actors.monitor.checking import Place, require
from actors.monitor.plain import restored
from infra.errors import MonitorConflict

DRAFT, RUNNING, PAUSED = "draft", "running", "paused"
COMPLETED, STOPPED = "completed", "stopped"

RANDOM = "random"
STICKY = ("user_id", "session_id", "custom_hash")
RESPONSE_TIME, SUCCESS_RATE = "response_time", "success_rate"
METRICS = (RESPONSE_TIME, SUCCESS_RATE)

# What watches and steers the service is never part of a test of it.
EXCLUDED = (
    "/docs",
    "/openapi.json",
    "/health",
    "/monitoring",
    "/metrics",
    "/assets",
    "/api/v2/ab-tests",
    "/api/v2/optimization",
    "/api/v2/performance",
    "/api/v2/alerts",
    "/api/metrics",
)
_EXCLUDED_BELOW = tuple(f"{prefix}/" for prefix in EXCLUDED)

MAX_VARIANTS = 8
MAX_ENDPOINTS = 50
SMALLEST_PERCENTAGE = 0.0001  # units are dealt out in 10,000ths of a percent
_SAMPLE_SIZES = (10, 1_000_000)
_CONFIDENCES = (0.8, 0.999)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Segments of a path: plain text, or a `{name}` that stands for any one; the last may be `*`.
_ENDPOINT = re.compile(r"(?:/(?:[^/{}*?#\s]*|\{[A-Za-z_]\w*\}))*(?:/\*)?")


@dataclass(frozen=True, slots=True)
class Variant:
    """One arm of a test. `traffic_percentage` is 0 to 100, of the units in the test."""

    id: str
    name: str
    description: str
    traffic_percentage: float
    is_control: bool = False
    optimization_rules: tuple[str, ...] = ()
    custom_config: dict[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Experiment:
    """A test. `min_sample_size`: requests of each variant; no `success_metrics` means all."""

    id: str
    name: str
    description: str
    variants: tuple[Variant, ...]
    traffic_split_method: str
    target_endpoints: tuple[str, ...]
    created_at_s: float
    updated_at_s: float
    min_sample_size: int = 1000
    confidence_level: float = 0.95
    success_metrics: tuple[str, ...] = ()
    status: str = DRAFT
    started_at_s: float | None = None
    ended_at_s: float | None = None
    stop_reason: str = ""

    @property
    def is_sticky(self) -> bool:
        """Whether a client keeps its variant."""
        return self.traffic_split_method in STICKY

    @property
    def control(self) -> Variant:
        """The variant that the others are compared with."""
        return next(variant for variant in self.variants if variant.is_control)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that decide."""
        return tuple(name for name in METRICS if name in (self.success_metrics or METRICS))


def is_excluded(path: str) -> bool:
    """Return whether a path never takes part in a test."""
    return path in EXCLUDED or path.startswith(_EXCLUDED_BELOW)


# -- checking ------------------------------------------------------------------------------------


def checked(
    experiment: Experiment, known_rules: Collection[str], request_scoped_rules: Collection[str]
) -> Experiment:
    """Return the test as it was given; raises RangeInvalid with the first fault found."""
    require(_ID.fullmatch(experiment.id), ("id",), _id_reason(experiment.id))
    _check_variants(experiment.variants)
    for index, variant in enumerate(experiment.variants):
        _check_rules(variant, ("variants", index), known_rules, request_scoped_rules)
    _check_split(experiment.traffic_split_method)
    _check_endpoints(experiment.target_endpoints)
    _check_range("min_sample_size", experiment.min_sample_size, _SAMPLE_SIZES)
    _check_range("confidence_level", experiment.confidence_level, _CONFIDENCES)
    for index, metric in enumerate(experiment.success_metrics):
        reason = f"{metric!r} is not one of {', '.join(METRICS)}"
        require(metric in METRICS, ("success_metrics", index), reason)
    return experiment


def _id_reason(id_: str) -> str:
    return (
        f"{id_[:80]!r} is not an id: 1 to 64 letters, digits, '.', '_' or '-', "
        "the first a letter or a digit"
    )


def _check_variants(variants: tuple[Variant, ...]) -> None:
    count = len(variants)
    require(2 <= count <= MAX_VARIANTS, ("variants",), f"{count} given, of 2 to {MAX_VARIANTS}")
    seen: set[str] = set()
    for index, variant in enumerate(variants):
        place = ("variants", index, "id")
        require(_ID.fullmatch(variant.id), place, _id_reason(variant.id))
        require(variant.id not in seen, place, f"{variant.id!r} is there twice")
        seen.add(variant.id)
        require(
            variant.traffic_percentage >= SMALLEST_PERCENTAGE,
            ("variants", index, "traffic_percentage"),
            f"{variant.traffic_percentage} is not at least {SMALLEST_PERCENTAGE}",
        )
    controls = sum(variant.is_control for variant in variants)
    require(controls == 1, ("variants",), f"{controls} are the control, and one must be")
    total = sum(variant.traffic_percentage for variant in variants)
    # As a difference that must hold: a NaN fails. The slack is for the sum of binary fractions.
    require(
        abs(total - 100) <= 0.01 + 1e-9,
        ("variants",),
        f"the percentages of traffic sum to {total:g}, not to 100",
    )


def _check_rules(
    variant: Variant, place: Place, known: Collection[str], request_scoped: Collection[str]
) -> None:
    for index, rule in enumerate(variant.optimization_rules):
        where = (*place, "optimization_rules", index)
        require(rule in known, where, f"there is no optimisation rule {rule[:80]!r}")
        require(
            rule in request_scoped,
            where,
            f"{rule!r} acts on whole processes, so variants with it cannot run side by side",
        )


def _check_split(method: str) -> None:
    place = ("traffic_split_method",)
    require(
        method != "ip_address",
        place,
        "ip_address cannot split traffic: behind HAProxy every client has the same address",
    )
    allowed = (RANDOM, *STICKY)
    require(method in allowed, place, f"{method[:80]!r} is not one of {', '.join(allowed)}")


def _check_endpoints(endpoints: tuple[str, ...]) -> None:
    count = len(endpoints)
    require(
        1 <= count <= MAX_ENDPOINTS,
        ("target_endpoints",),
        f"{count} given, of 1 to {MAX_ENDPOINTS}",
    )
    for index, endpoint in enumerate(endpoints):
        place = ("target_endpoints", index)
        require(
            0 < len(endpoint) <= 200 and _ENDPOINT.fullmatch(endpoint),
            place,
            f"{endpoint[:80]!r} is not a path: '/' and segments, of which '{{name}}' stands for "
            "any one and a final '*' for all that follow",
        )
        require(not is_excluded(endpoint), place, f"{endpoint!r} never takes part in a test")


def _check_range(name: str, value: float, bounds: tuple[float, float]) -> None:
    low, high = bounds
    require(low <= value <= high, (name,), f"{value} is not within {low} to {high}")


# -- states --------------------------------------------------------------------------------------
_MOVES = {
    "started": ((DRAFT,), RUNNING),
    "paused": ((RUNNING,), PAUSED),
    "resumed": ((PAUSED,), RUNNING),
    "stopped": ((RUNNING, PAUSED), STOPPED),
    "completed": ((RUNNING, PAUSED), COMPLETED),
}


def moved(experiment: Experiment, to: str, now_s: float, reason: str = "") -> Experiment:
    """Return a test that was `started`, `paused`, `resumed`, `stopped` or `completed`.

    Raises MonitorConflict where it is not in a state for that: a second start would mix data.
    """
    sources, status = _MOVES[to]
    if experiment.status not in sources:
        raise MonitorConflict(
            f"test {experiment.id!r} is {experiment.status}: "
            f"only a test that is {' or '.join(sources)} can be {to}"
        )
    changed = replace(experiment, status=status, updated_at_s=now_s)
    if to == "started":
        return replace(changed, started_at_s=now_s)
    if status in (STOPPED, COMPLETED):
        return replace(changed, ended_at_s=now_s, stop_reason=reason)
    return changed


def experiment_from(body: object) -> Experiment:
    """Return what `plain` was made of; raises ValueError for anything else."""
    return restored(Experiment, body)
