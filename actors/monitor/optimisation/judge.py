"""Whether a switch made things worse: readings before it against those after it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Literal

from actors.monitor.optimisation.rules import Rule, Threshold
from actors.monitor.reading import Reading

WINDOW_S = 900.0
SETTLING_S = 60.0  # after a switch, while caches fill or empty
BLOCK_S = 60.0
BLOCKS_MIN = 5
# Seconds after a switch at which it is judged. Each look is one more chance of a false alarm.
LOOKS_S = (360.0, 660.0, 900.0)
# Of a false rollback: of one judgement, over all its thresholds and looks (Bonferroni).
ERROR_RATE = 0.01
# A lag-1 correlation of 0.5 between readings 10 s apart leaves 0.14 between means of a minute;
# an estimate from so few blocks may say less by chance, so it is not believed below that.
_CORRELATION_MIN, _CORRELATION_MAX = 0.14, 0.9
# A worsening this small is told, but not worth a rollback, even if it is certain.
WORSENING_MIN_PERCENT = 5.0

# What clients ask for. Fewer questions are no fault of a rule.
_DEMAND = frozenset({"requests_per_second", "processed_requests", "active_connections"})
_BETTER_HIGHER = _DEMAND | {"cache_hit_rate"}

Verdict = Literal["ok", "worse", "below_target", "not_measured", "not_enough_data"]
Overall = Verdict | Literal["not_judged"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One threshold. `worse` is a reason to roll back, `below_target` is only told.

    `interval`: of `change_percent`, at the level that was tested; None where nothing was before.
    """

    threshold: str
    metric: str | None
    limit: float
    before_mean: float | None
    after_mean: float | None
    change_percent: float | None
    interval: tuple[float, float] | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Judgement:
    """All thresholds of a rule; the first of worse, below_target, not_enough_data, ok, … counts.

    `not_judged`: there is nothing from before the switch.
    """

    rule_id: str
    verdict: Overall
    findings: tuple[Finding, ...]

    @property
    def is_rollback(self) -> bool:
        """Whether the rule has to be switched back."""
        return self.verdict == "worse"

    @property
    def reason(self) -> str:
        """Say in a sentence what is worse; "" if nothing is."""
        worse = [one for one in self.findings if one.verdict == "worse"]
        return "; ".join(
            f"{one.threshold} {one.limit:g}: {one.metric} was {one.before_mean:.4g}, "
            f"is {one.after_mean:.4g}"
            for one in worse
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain types that JSON takes."""
        return {**asdict(self), "reason": self.reason}


def window_before(
    readings: Sequence[Reading], at_s: float, since_s: float = -math.inf
) -> list[Reading]:
    """Return those that lie in the 15 minutes before a switch, and after `since_s`.

    `since_s`: the switch before that one, so that its effect is not taken for this one's.
    """
    start_s = max(at_s - WINDOW_S, since_s)
    return [one for one in readings if one.at_s <= at_s and one.at_s - one.span_s >= start_s]


def window_after(
    readings: Sequence[Reading], at_s: float, until_s: float = math.inf
) -> list[Reading]:
    """Return those that lie from 1 to 15 minutes after a switch, and before `until_s`.

    `until_s`: the next switch.
    """
    end_s = min(at_s + WINDOW_S, until_s)
    start_s = at_s + SETTLING_S
    return [one for one in readings if one.at_s <= end_s and one.at_s - one.span_s >= start_s]


def looks_due(at_s: float, now_s: float) -> int:
    """Return how many looks at a switch are due; judge it when that has grown."""
    return sum(now_s - at_s >= look_s for look_s in LOOKS_S)


def judge(rule: Rule, before: Sequence[Reading], after: Sequence[Reading]) -> Judgement:
    """Judge a switch by the rule's thresholds; oldest readings first.

    Means of minutes are compared by a one-sided Welch test. Its standard error is widened for
    the correlation that is left between neighbouring minutes. The level is such that one switch
    without effect is rolled back in 1 % of cases at most, if it is judged at `LOOKS_S`.
    """
    thresholds = rule.thresholds
    if not before:
        return Judgement(rule.id, "not_judged", ())
    measured = sum(one.metric is not None for one in thresholds)
    level = ERROR_RATE / (len(LOOKS_S) * max(measured, 1))
    findings = tuple(_finding(one, before, after, level) for one in thresholds)
    return Judgement(rule.id, _overall(findings), findings)


def rollback_condition(rule: Rule) -> str:
    """Say in a sentence when the rule is rolled back; "" if it never is."""
    said = [_condition(one) for one in rule.thresholds if _can_be_worse(one)]
    if not said:
        return ""
    return f"{' or '.join(said)}, between the 15 minutes before and after, at 99 % confidence"


def _condition(one: Threshold) -> str:
    if one.kind == "increase":
        return f"{one.metric} rises by more than {one.limit:g} %"
    if one.kind in ("minimum", "maximum"):
        side = "below" if one.kind == "minimum" else "above"
        return f"{one.metric} gets {side} {one.limit:g}"
    verb = "rises" if _worse_sign(one) > 0 else "falls"
    return f"{one.metric} {verb} by more than {WORSENING_MIN_PERCENT:g} %"


def _can_be_worse(one: Threshold) -> bool:
    is_goal = one.kind in ("improvement", "reduction")
    return one.metric is not None and not (is_goal and one.metric in _DEMAND)


def _overall(findings: Sequence[Finding]) -> Overall:
    found = {one.verdict for one in findings}
    order: tuple[Verdict, ...] = ("worse", "below_target", "not_enough_data", "ok")
    return next((verdict for verdict in order if verdict in found), "not_measured")


def _finding(
    threshold: Threshold, before: Sequence[Reading], after: Sequence[Reading], level: float
) -> Finding:
    if threshold.metric is None:
        return _without(threshold, None, None, "not_measured")
    was, now = _blocks(before, threshold.metric), _blocks(after, threshold.metric)
    if min(len(was), len(now)) < BLOCKS_MIN:
        return _without(threshold, _mean(was), _mean(now), "not_enough_data")
    change = _Change(was, now, level)
    if change.percent is None and threshold.kind not in ("minimum", "maximum"):
        # A percentage of nothing.
        return _without(threshold, change.was, change.now, "not_enough_data")
    verdict = _verdict(threshold, change)
    return Finding(
        threshold.name,
        threshold.metric,
        threshold.limit,
        change.was,
        change.now,
        change.percent,
        change.interval,
        verdict,
    )


def _without(
    threshold: Threshold, was: float | None, now: float | None, verdict: Verdict
) -> Finding:
    return Finding(
        threshold.name, threshold.metric, threshold.limit, was, now, None, None, verdict
    )


def _verdict(threshold: Threshold, change: _Change) -> Verdict:
    sign = _worse_sign(threshold)
    if threshold.kind in ("minimum", "maximum"):
        return _limit_verdict(change, sign, threshold.limit)
    worsening = sign * (change.percent or 0.0)
    is_certain = change.is_certain(sign)
    if threshold.kind == "increase":
        return "worse" if is_certain and worsening > threshold.limit else "ok"
    is_large = worsening > WORSENING_MIN_PERCENT
    if is_certain and is_large and _can_be_worse(threshold):
        return "worse"
    return "ok" if -worsening >= threshold.limit else "below_target"


def _limit_verdict(change: _Change, sign: int, limit: float) -> Verdict:
    # The change must be certain too: a mean near the limit crosses it by chance.
    was_beyond = sign * (change.was - limit) > change.was_margin
    is_beyond = sign * (change.now - limit) > change.now_margin
    if is_beyond and not was_beyond and change.is_certain(sign):
        return "worse"
    return "below_target" if sign * (change.now - limit) > 0 else "ok"


def _worse_sign(threshold: Threshold) -> int:
    # 1 where higher is worse.
    if threshold.kind == "minimum":
        return -1
    is_better = threshold.kind == "improvement" and threshold.metric in _BETTER_HIGHER
    return -1 if is_better else 1


class _Change:
    """Of the mean between two rows of blocks; a margin is half of an interval's width."""

    def __init__(self, was: Sequence[float], now: Sequence[float], level: float) -> None:
        self.was, self.now = fmean(was), fmean(now)
        widening = _widening(was, now)
        was_error = _squares(was) / (len(was) - 1) / len(was) * widening
        now_error = _squares(now) / (len(now) - 1) / len(now) * widening
        self.was_margin = math.sqrt(was_error) * _t(len(was) - 1, level)
        self.now_margin = math.sqrt(now_error) * _t(len(now) - 1, level)
        freedom = _freedom(was_error, len(was), now_error, len(now))
        self.margin = math.sqrt(was_error + now_error) * _t(freedom, level)

    def is_certain(self, sign: int) -> bool:
        # What sums leave of rounding is no change.
        rounding = 1e-9 * max(abs(self.was), abs(self.now))
        return sign * (self.now - self.was) > max(self.margin, rounding)

    @property
    def percent(self) -> float | None:
        return 100.0 * (self.now - self.was) / abs(self.was) if self.was else None

    @property
    def interval(self) -> tuple[float, float] | None:
        if self.percent is None:
            return None
        half = 100.0 * self.margin / abs(self.was)
        return self.percent - half, self.percent + half


def _blocks(readings: Sequence[Reading], metric: str) -> list[float]:
    """Return means of minutes in which at least half of the time has a value."""
    values: dict[int, list[float]] = defaultdict(list)
    covered_s: dict[int, float] = defaultdict(float)
    for one in readings:
        value = one.value(metric)
        if value is None:
            continue
        # By the middle of the span: readings that come a little late stay in their minute.
        since_s = one.at_s - one.span_s / 2 - (readings[0].at_s - readings[0].span_s)
        block = int(since_s // BLOCK_S)
        values[block].append(value)
        covered_s[block] += one.span_s
    return [fmean(values[block]) for block in values if covered_s[block] >= BLOCK_S / 2]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _widening(was: Sequence[float], now: Sequence[float]) -> float:
    """Return what the variance of a mean grows by, (1 + r) / (1 - r), if neighbours correlate."""
    squares = _squares(was) + _squares(now)
    estimate = (_neighbours(was) + _neighbours(now)) / squares if squares else 0.0
    correlation = min(max(estimate, _CORRELATION_MIN), _CORRELATION_MAX)
    return (1 + correlation) / (1 - correlation)


def _squares(row: Sequence[float]) -> float:
    mean = fmean(row)
    return math.fsum((value - mean) ** 2 for value in row)


def _neighbours(row: Sequence[float]) -> float:
    # Products of neighbours' distances from the mean.
    mean = fmean(row)
    return math.fsum((a - mean) * (b - mean) for a, b in zip(row[:-1], row[1:], strict=True))


def _freedom(was_error: float, was_count: int, now_error: float, now_count: int) -> float:
    """Return Welch's degrees of freedom (Welch-Satterthwaite)."""
    parts = was_error**2 / (was_count - 1) + now_error**2 / (now_count - 1)
    if not parts:
        return was_count + now_count - 2
    return float((was_error + now_error) ** 2 / parts)


def _t(freedom: float, level: float) -> float:
    from scipy.special import stdtrit  # type: ignore[import-untyped]  # 20 MB: only when judging

    return float(stdtrit(freedom, 1 - level))
