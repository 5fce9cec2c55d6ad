"""What an A/B test is: its variants, where it applies, and the states it goes through."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from typing import Any

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

Place = tuple[str | int, ...]


class ExperimentInvalid(ValueError):
    """Raised when a test cannot be run as defined; `place` leads to the field at fault."""

    def __init__(self, place: Place, reason: str) -> None:
        super().__init__(place, reason)
        self.place = place
        self.reason = reason

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.place))}: {self.reason}"


class StateInvalid(ValueError):
    """Raised when a test is not in a state from which it can be moved so."""


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
    """Return the test as it was given; raises ExperimentInvalid with the first fault found."""
    _require(_ID.fullmatch(experiment.id), ("id",), _id_reason(experiment.id))
    _check_variants(experiment.variants)
    for index, variant in enumerate(experiment.variants):
        _check_rules(variant, ("variants", index), known_rules, request_scoped_rules)
    _check_split(experiment.traffic_split_method)
    _check_endpoints(experiment.target_endpoints)
    _check_range("min_sample_size", experiment.min_sample_size, _SAMPLE_SIZES)
    _check_range("confidence_level", experiment.confidence_level, _CONFIDENCES)
    for index, metric in enumerate(experiment.success_metrics):
        reason = f"{metric!r} is not one of {', '.join(METRICS)}"
        _require(metric in METRICS, ("success_metrics", index), reason)
    return experiment


def _require(holds: object, place: Place, reason: str) -> None:
    if not holds:
        raise ExperimentInvalid(place, reason)


def _id_reason(id_: str) -> str:
    return (
        f"{id_[:80]!r} is not an id: 1 to 64 letters, digits, '.', '_' or '-', "
        "the first a letter or a digit"
    )


def _check_variants(variants: tuple[Variant, ...]) -> None:
    count = len(variants)
    _require(2 <= count <= MAX_VARIANTS, ("variants",), f"{count} given, of 2 to {MAX_VARIANTS}")
    seen: set[str] = set()
    for index, variant in enumerate(variants):
        place = ("variants", index, "id")
        _require(_ID.fullmatch(variant.id), place, _id_reason(variant.id))
        _require(variant.id not in seen, place, f"{variant.id!r} is there twice")
        seen.add(variant.id)
        _require(
            variant.traffic_percentage >= SMALLEST_PERCENTAGE,
            ("variants", index, "traffic_percentage"),
            f"{variant.traffic_percentage} is not at least {SMALLEST_PERCENTAGE}",
        )
    controls = sum(variant.is_control for variant in variants)
    _require(controls == 1, ("variants",), f"{controls} are the control, and one must be")
    total = sum(variant.traffic_percentage for variant in variants)
    # As a difference that must hold: a NaN fails. The slack is for the sum of binary fractions.
    _require(
        abs(total - 100) <= 0.01 + 1e-9,
        ("variants",),
        f"the percentages of traffic sum to {total:g}, not to 100",
    )


def _check_rules(
    variant: Variant, place: Place, known: Collection[str], request_scoped: Collection[str]
) -> None:
    for index, rule in enumerate(variant.optimization_rules):
        where = (*place, "optimization_rules", index)
        _require(rule in known, where, f"there is no optimisation rule {rule[:80]!r}")
        _require(
            rule in request_scoped,
            where,
            f"{rule!r} acts on whole processes, so variants with it cannot run side by side",
        )


def _check_split(method: str) -> None:
    place = ("traffic_split_method",)
    _require(
        method != "ip_address",
        place,
        "ip_address cannot split traffic: behind HAProxy every client has the same address",
    )
    allowed = (RANDOM, *STICKY)
    _require(method in allowed, place, f"{method[:80]!r} is not one of {', '.join(allowed)}")


def _check_endpoints(endpoints: tuple[str, ...]) -> None:
    count = len(endpoints)
    _require(
        1 <= count <= MAX_ENDPOINTS,
        ("target_endpoints",),
        f"{count} given, of 1 to {MAX_ENDPOINTS}",
    )
    for index, endpoint in enumerate(endpoints):
        place = ("target_endpoints", index)
        _require(
            0 < len(endpoint) <= 200 and _ENDPOINT.fullmatch(endpoint),
            place,
            f"{endpoint[:80]!r} is not a path: '/' and segments, of which '{{name}}' stands for "
            "any one and a final '*' for all that follow",
        )
        _require(not is_excluded(endpoint), place, f"{endpoint!r} never takes part in a test")


def _check_range(name: str, value: float, bounds: tuple[float, float]) -> None:
    low, high = bounds
    _require(low <= value <= high, (name,), f"{value} is not within {low} to {high}")


# -- states --------------------------------------------------------------------------------------


def started(experiment: Experiment, now_s: float) -> Experiment:
    """Return a draft as running; raises StateInvalid for any other, which would mix its data."""
    _move(experiment, "started", (DRAFT,))
    return replace(experiment, status=RUNNING, started_at_s=now_s, updated_at_s=now_s)


def paused(experiment: Experiment, now_s: float) -> Experiment:
    """Return a running test as paused; raises StateInvalid for any other."""
    _move(experiment, "paused", (RUNNING,))
    return replace(experiment, status=PAUSED, updated_at_s=now_s)


def resumed(experiment: Experiment, now_s: float) -> Experiment:
    """Return a paused test as running; raises StateInvalid for any other."""
    _move(experiment, "resumed", (PAUSED,))
    return replace(experiment, status=RUNNING, updated_at_s=now_s)


def stopped(experiment: Experiment, reason: str, now_s: float) -> Experiment:
    """Return a running or paused test as given up; raises StateInvalid for any other."""
    _move(experiment, "stopped", (RUNNING, PAUSED))
    return _ended(experiment, STOPPED, reason, now_s)


def completed(experiment: Experiment, now_s: float) -> Experiment:
    """Return a running or paused test as done; raises StateInvalid for any other."""
    _move(experiment, "completed", (RUNNING, PAUSED))
    return _ended(experiment, COMPLETED, "", now_s)


def _move(experiment: Experiment, to: str, sources: tuple[str, ...]) -> None:
    if experiment.status not in sources:
        raise StateInvalid(
            f"test {experiment.id!r} is {experiment.status}: "
            f"only a test that is {' or '.join(sources)} can be {to}"
        )


def _ended(experiment: Experiment, status: str, reason: str, now_s: float) -> Experiment:
    return replace(
        experiment, status=status, stop_reason=reason, ended_at_s=now_s, updated_at_s=now_s
    )


# -- storing -------------------------------------------------------------------------------------


def as_dict(experiment: Experiment) -> dict[str, Any]:
    """Return plain types that JSON takes and gives back the same."""
    variants = [
        asdict(variant) | {"optimization_rules": list(variant.optimization_rules)}
        for variant in experiment.variants
    ]
    return asdict(experiment) | {
        "variants": variants,
        "target_endpoints": list(experiment.target_endpoints),
        "success_metrics": list(experiment.success_metrics),
    }


def from_dict(body: dict[str, Any]) -> Experiment:
    """Return what `as_dict` was made of; raises TypeError or KeyError for anything else."""
    variants = tuple(
        Variant(**{**one, "optimization_rules": tuple(one["optimization_rules"])})
        for one in body["variants"]
    )
    return Experiment(
        **{
            **body,
            "variants": variants,
            "target_endpoints": tuple(body["target_endpoints"]),
            "success_metrics": tuple(body["success_metrics"]),
        }
    )
