"""What can be optimised: built-in rules, those of users, and the grammar of thresholds."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from actors.monitor.checking import refusal, require, require_one_of
from actors.monitor.metrics import ALSO_NAMED, METRICS

TYPES = (
    "memory_optimization",
    "caching",
    "async_processing",
    "background_tasks",
    "websocket_streaming",
    "database_optimization",
)
ID_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,63}")
NAMES_MAX = 50  # targets, dependencies and thresholds of one rule

Kind = Literal["increase", "minimum", "maximum", "improvement", "reduction"]

# Longest first where one ends another.
_SUFFIXES: tuple[tuple[str, Kind], ...] = (
    ("_increase_percent", "increase"),
    ("_improvement_minimum", "improvement"),
    ("_improvement", "improvement"),
    ("_reduction", "reduction"),
    ("_minimum", "minimum"),
    ("_maximum", "maximum"),
)
_NOT_MEASURED = frozenset({"connection_stability"})
METRIC_NAMES = (*sorted({*METRICS, *ALSO_NAMED}), *sorted(_NOT_MEASURED))


@dataclass(frozen=True, slots=True)
class Rule:
    """One optimisation. `switches`: it has code paths of its own, as the built-in ones have.

    A rule of a user groups others by its dependencies. Enabling it enables nothing else; it can
    be judged by its thresholds.
    """

    id: str
    name: str
    description: str
    optimization_type: str
    target_services: tuple[str, ...]
    dependencies: tuple[str, ...] = ()
    performance_threshold: dict[str, float] = field(default_factory=dict)
    switches: bool = True

    @property
    def thresholds(self) -> tuple[Threshold, ...]:
        """`performance_threshold`, parsed, in its order."""
        return tuple(threshold_from(*item) for item in self.performance_threshold.items())


@dataclass(frozen=True, slots=True)
class Threshold:
    """One parsed threshold; `metric` (a name of readings) is None if nothing measures it.

    `limit` is a percentage of change for increase, improvement and reduction; for minimum and
    maximum it is in the metric's own unit.
    """

    name: str
    kind: Kind
    metric: str | None
    limit: float


def threshold_from(name: str, limit: float) -> Threshold:
    """Parse `<metric>_<kind>`; raises RangeInvalid, with the names there are, if it does not."""
    place = f"performance_threshold.{name[:80]}"
    number = isinstance(limit, int | float) and not isinstance(limit, bool)
    if not number or not math.isfinite(limit) or limit < 0:
        raise refusal(place, f"{str(limit)[:40]!r} is not a finite number of 0 or more")
    for suffix, kind in _SUFFIXES:
        if name.endswith(suffix):
            metric = name.removesuffix(suffix)
            if metric in _NOT_MEASURED:
                return Threshold(name, kind, None, float(limit))
            found = METRICS.get(metric) or ALSO_NAMED.get(metric)
            if found is not None:
                return Threshold(name, kind, found.name, float(limit))
            raise refusal(place, f"its metric is none of {', '.join(METRIC_NAMES)}")
    suffixes = ", ".join(suffix for suffix, _ in _SUFFIXES)
    raise refusal(place, f"it must be a metric and one of {suffixes}")


def checked_new(rule: Mapping[str, Any], known: Mapping[str, Rule]) -> Rule:
    """Return a user's rule, made of the fields of `Rule`; raises RangeInvalid.

    It switches nothing by itself.
    """
    rule_id, kind = rule["id"], rule["optimization_type"]
    matches = ID_PATTERN.fullmatch(rule_id)
    require(matches, "id", f"{rule_id[:80]!r} does not match {ID_PATTERN.pattern}")
    require(rule_id not in known, "id", f"there is a rule {rule_id!r} already")
    require_one_of("optimization_type", kind[:80], TYPES)
    needed = tuple(dict.fromkeys(rule.get("dependencies") or ()))
    unknown = ", ".join(repr(name[:80]) for name in needed if name not in known)
    require(not unknown, "dependencies", f"there is no rule {unknown}")
    limits = dict(rule.get("performance_threshold") or {})
    made = Rule(
        id=rule_id,
        name=rule["name"],
        description=rule["description"],
        optimization_type=kind,
        target_services=tuple(rule["target_services"]),
        dependencies=needed,
        performance_threshold={name: threshold_from(name, limits[name]).limit for name in limits},
        switches=False,
    )
    for place in ("target_services", "dependencies", "performance_threshold"):
        few = len(getattr(made, place)) <= NAMES_MAX
        require(few, place, f"there are more than {NAMES_MAX}")
    return made
