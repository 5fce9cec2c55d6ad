"""What is wrong with the service: a metric past a threshold, for how long, and who is told."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from actors.monitor.checking import refusal, require, require_one_of
from actors.monitor.metrics import METRICS

SEVERITIES = ("info", "warning", "error", "critical")
# `apprise` means all targets that the operator configured.
CHANNELS = ("websocket", "log", "email", "webhook", "apprise")
CONDITIONS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
}
HYSTERESIS = 0.05  # of the threshold
LONGEST_COOLDOWN_MINUTES = 1_440.0
LONGEST_DURATION_S = 86_400.0
_LONGEST_NAME, _LONGEST_DESCRIPTION = 100, 500
_ID = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_WORDS = {
    ">": "above",
    ">=": "at or above",
    "<": "below",
    "<=": "at or below",
    "==": "equal to",
}


@dataclass(frozen=True, slots=True)
class ServiceAlertRule:
    """A rule about the service: `metric_name condition threshold`, for `duration_s` seconds.

    It clears past `clear_threshold`, else 5 % on the good side of the threshold.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")  # it is the body of a request too

    id: Annotated[str, Field(examples=["slow_answers"])]
    name: Annotated[str, Field(min_length=1, max_length=200)]
    metric_name: Annotated[str, Field(examples=["p95_response_time"])]
    condition: Annotated[str, Field(examples=[">"])]
    threshold: float
    severity: Annotated[str, Field(examples=["warning"])]
    channels: Annotated[tuple[str, ...], Field(max_length=10, examples=[["websocket", "log"]])]
    cooldown_minutes: float = 5.0
    enabled: bool = True
    description: Annotated[str, Field(max_length=2_000)] = ""
    duration_s: float = 0.0
    clear_threshold: float | None = None

    def is_met(self, value: float) -> bool:
        """Return whether a value is what the rule warns of."""
        return CONDITIONS[self.condition](value, self.threshold)

    def is_clear(self, value: float) -> bool:
        """Return whether a value is well on the good side. Between, it is neither."""
        return not CONDITIONS[self.condition](value, self.clears_at)

    @property
    def clears_at(self) -> float:
        """The clear threshold, given or by default."""
        if self.clear_threshold is not None:
            return self.clear_threshold
        band = HYSTERESIS * abs(self.threshold)
        if self.condition in (">", ">="):
            return self.threshold - band
        if self.condition == "==":
            return self.threshold
        cap = METRICS[self.metric_name].cap
        if self.threshold < cap:
            # 5 % above 98 % is out of reach, and the alert would never end.
            band = min(band, (cap - self.threshold) / 2.0)
        return self.threshold + band

    def sentence(self, value: float) -> str:
        """Return how a value stands to the rule, with units."""
        metric = METRICS[self.metric_name]
        past = f"{_WORDS[self.condition]} {_shown(self.threshold)}{metric.unit}"
        start = f"The {metric.words} is {_shown(value)}{metric.unit}, "
        if not self.is_met(value):
            return f"{start}no longer {past}."
        lasting = f" for at least {_shown(self.duration_s)} s" if self.duration_s else ""
        return f"{start}{past}{lasting}."


def checked(rule: ServiceAlertRule) -> ServiceAlertRule:
    """Return a rule that means something, each channel once; raises RangeInvalid."""
    require(isinstance(rule.id, str) and _ID.fullmatch(rule.id), "id", f"use {_ID.pattern}")
    _check_text("name", rule.name, 1, _LONGEST_NAME)
    _check_text("description", rule.description, 0, _LONGEST_DESCRIPTION)
    require_one_of("metric_name", rule.metric_name, METRICS)
    require_one_of("condition", rule.condition, CONDITIONS)
    require_one_of("severity", rule.severity, SEVERITIES)
    require(rule.channels, "channels", f"use one or more of {', '.join(CHANNELS)}")
    for channel in rule.channels:
        require_one_of("channels", channel, CHANNELS)
    require(isinstance(rule.enabled, bool), "enabled", "use true or false")
    _check_number("threshold", rule.threshold, -math.inf, math.inf)
    _check_number("cooldown_minutes", rule.cooldown_minutes, 0.0, LONGEST_COOLDOWN_MINUTES)
    _check_number("duration_s", rule.duration_s, 0.0, LONGEST_DURATION_S)
    _check_clear(rule)
    return replace(rule, channels=tuple(dict.fromkeys(rule.channels)))


def _check_text(place: str, value: object, shortest: int, longest: int) -> None:
    holds = isinstance(value, str) and shortest <= len(value.strip()) <= len(value) <= longest
    require(holds, place, f"use a text of {shortest} to {longest} characters")


def _check_number(place: str, value: object, lowest: float, highest: float) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value) and lowest <= value <= highest:
            return
    bounds = "" if math.isinf(highest) else f" from {lowest:g} to {highest:g}"
    raise refusal(place, f"use a finite number{bounds}")


def _check_clear(rule: ServiceAlertRule) -> None:
    clear = rule.clear_threshold
    if clear is None:
        return
    _check_number("clear_threshold", clear, -math.inf, math.inf)
    reason = "leave it out: == is clear when it is not equal"
    require(rule.condition != "==", "clear_threshold", reason)
    is_high = rule.condition in (">", ">=")
    holds = clear <= rule.threshold if is_high else clear >= rule.threshold
    side = "most" if is_high else "least"
    require(holds, "clear_threshold", f"use at {side} the threshold, {rule.threshold:g}")


def _shown(value: float) -> str:
    return f"{value:,.2f}".rstrip("0").rstrip(".")


_QUIET = ("websocket", "log")
_LOUD = ("email", "websocket", "log")
_LASTING = "For 60 s: a short peak, as of a start or one large computation, is no trouble."

DEFAULT_RULES: tuple[ServiceAlertRule, ...] = (
    ServiceAlertRule(
        "high_cpu_usage", "High CPU use", "cpu_percent", ">", 80.0, "warning", _QUIET,
        cooldown_minutes=5, duration_s=60.0, description=_LASTING,
    ),
    ServiceAlertRule(
        "critical_cpu_usage", "Critical CPU use", "cpu_percent", ">", 90.0, "critical", _LOUD,
        cooldown_minutes=2, duration_s=60.0, description=_LASTING,
    ),
    ServiceAlertRule(
        "high_memory_usage", "High memory use", "memory_percent", ">", 85.0, "warning", _QUIET,
        cooldown_minutes=5, duration_s=60.0, description=_LASTING,
    ),
    ServiceAlertRule(
        "critical_memory_usage", "Critical memory use", "memory_percent", ">", 95.0, "critical",
        _LOUD, cooldown_minutes=2, duration_s=60.0, description=_LASTING,
    ),
    ServiceAlertRule(
        "slow_api_response", "Slow responses", "api_response_time_ms", ">", 1_000.0, "warning",
        _QUIET, cooldown_minutes=10, description="The mean of all requests of a reading.",
    ),
    ServiceAlertRule(
        "very_slow_api_response", "Very slow responses", "api_response_time_ms", ">", 2_000.0,
        "critical", _LOUD, cooldown_minutes=5,
        description="The mean of all requests of a reading.",
    ),
    ServiceAlertRule(
        "low_cache_hit_rate", "Low hit rate of the caches", "cache_hit_rate", "<", 70.0, "warning",
        _QUIET, cooldown_minutes=15, description="Idle caches have no hit rate, and no alert.",
    ),
    ServiceAlertRule(
        "high_error_rate", "Many failed requests", "error_rate_percent", ">", 5.0, "warning",
        _QUIET, cooldown_minutes=10, description="Answers of 5xx among the requests of a reading.",
    ),
    ServiceAlertRule(
        "many_haproxy_processes", "Many HAProxy processes", "haproxy_processes", ">", 3.0,
        "warning", _QUIET, cooldown_minutes=10, clear_threshold=3.0,
        description="Every change of a replica starts a new HAProxy, and open sockets stay with"
        " the old one: each that stays holds memory until its last socket closes.",
    ),
    ServiceAlertRule(
        "slow_event_loop", "Slow event loop", "event_loop_lag_ms", ">", 100.0, "warning", _QUIET,
        cooldown_minutes=10, duration_s=120.0,
        description="Something blocks or starves an event loop: everybody's answers wait.",
    ),
)  # fmt: skip
