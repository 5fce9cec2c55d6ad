"""Whether a switch made things worse: readings before it against those after it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from actors.monitor.comparison import MeanChange, between, percent_of
from actors.monitor.metrics import METRICS
from actors.monitor.optimisation.rules import Rule, Threshold
from actors.monitor.reading import Reading

WINDOW_S = 900.0
SETTLING_S = 60.0  # after a switch, while caches fill or empty
BLOCK_S = 60.0
BLOCKS_MIN = 5
# Seconds after a switch at which it is evaluated. Each look is one more chance of a false alarm.
LOOKS_S = (360.0, 660.0, 900.0)
# Of a false rollback: of one evaluation, over all its thresholds and looks (Bonferroni).
ERROR_RATE = 0.01
# A worsening this small is told, but not worth a rollback, even if it is certain.
WORSENING_MIN_PERCENT = 5.0

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
class Evaluation:
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
            f"{one.threshold} {one.limit:g}: "
            f"{METRICS[one.metric].moved(one.before_mean, one.after_mean)}"
            for one in worse
            if one.metric is not None
        )


def window_before(
    readings: Sequence[Reading], at_s: float, since_s: float = -math.inf
) -> list[Reading]:
    """Return those that lie in the 15 minutes before a switch, and after `since_s`.

    `since_s`: the switch before that one, so that its effect is not taken for this one's.
    """
    return between(readings, max(at_s - WINDOW_S, since_s), at_s)


def window_after(
    readings: Sequence[Reading], at_s: float, until_s: float = math.inf
) -> list[Reading]:
    """Return those that lie from 1 to 15 minutes after a switch, and before `until_s`.

    `until_s`: the next switch.
    """
    return between(readings, at_s + SETTLING_S, min(at_s + WINDOW_S, until_s))


def looks_due(at_s: float, now_s: float) -> int:
    """Return how many looks at a switch are due; evaluate it when that has grown."""
    return sum(now_s - at_s >= look_s for look_s in LOOKS_S)


def evaluate(rule: Rule, before: Sequence[Reading], after: Sequence[Reading]) -> Evaluation:
    """Evaluate a switch by the rule's thresholds; oldest readings first.

    Means of minutes are compared by a one-sided Welch test. Its standard error is widened for
    the correlation that is left between neighbouring minutes. The level is such that one switch
    without effect is rolled back in 1 % of cases at most, if it is evaluated at `LOOKS_S`.
    """
    thresholds = rule.thresholds
    if not before:
        return Evaluation(rule.id, "not_judged", ())
    measured = sum(one.metric is not None for one in thresholds)
    level = ERROR_RATE / (len(LOOKS_S) * max(measured, 1))
    findings = tuple(_finding(one, before, after, level) for one in thresholds)
    return Evaluation(rule.id, _overall(findings), findings)


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
    return one.metric is not None and not (is_goal and METRICS[one.metric].is_demand)


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
    change = MeanChange(was, now, level, is_series=True)
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
        _percent_interval(change),
        verdict,
    )


def _without(
    threshold: Threshold, was: float | None, now: float | None, verdict: Verdict
) -> Finding:
    return Finding(
        threshold.name, threshold.metric, threshold.limit, was, now, None, None, verdict
    )


def _verdict(threshold: Threshold, change: MeanChange) -> Verdict:
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


def _limit_verdict(change: MeanChange, sign: int, limit: float) -> Verdict:
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
    is_goal = threshold.kind == "improvement" and threshold.metric is not None
    return -1 if is_goal and METRICS[threshold.metric or ""].better == "higher" else 1


def _percent_interval(change: MeanChange) -> tuple[float, float] | None:
    low, high = (percent_of(end, change.was) for end in change.interval)
    return None if low is None or high is None else (low, high)


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
