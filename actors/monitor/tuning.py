"""Which settings to change when readings stay bad, and whether a change helped."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from actors.monitor.grades import DEFAULTS, Thresholds, exceeded, is_poor_run
from actors.monitor.knobs import CACHE_SHARES, TTL_FACTORS, Change, Knobs, Trigger
from actors.monitor.metrics import METRICS
from actors.monitor.plain import plain, restored
from actors.monitor.reading import Reading
from actors.monitor.reviews import REVIEW_AFTER_S, WINDOW_S, Undo, review_of

BATCH_MS_MOST = 20.0
PREFETCHED = 5

COOL_DOWN_S = 1_800.0
REST_S = 7_200.0  # what was undone is not tried again for so long
_FORCED_EVERY_S = 600.0
_LOOKED_AT = 5
_MUST_HOLD = 3
_KEPT_REVIEWS = 50

MEMORY, CPU, RESPONSE, ERRORS, HITS = (
    "memory_percent", "cpu_percent", "api_response_time_ms", "error_rate_percent",
    "cache_hit_rate",
)  # fmt: skip
MEMORY_RULE, ASYNC_RULE = "memory_optimization_basic", "async_api_endpoints"
ALL_RULES = (MEMORY_RULE, "caching_technical_analysis", "caching_price_data", ASYNC_RULE)
_LIMITS = {MEMORY: 85.0, RESPONSE: 1_500.0, HITS: 60.0}
_RULES = {MEMORY: (MEMORY_RULE,), RESPONSE: (ASYNC_RULE,)}


class Tuner:
    """Decides changes, one at a time, and reviews them. State: `state`, given back on a restart.

    A condition has to hold now and in three of the last five readings of ten minutes. After a
    change or an undo nothing is decided for 30 minutes, except for five poor readings in a row,
    and for those not before what they last changed was reviewed, 12 minutes later. What was
    undone rests for two hours. `reviews`: the last 50, oldest first, as plain types.
    """

    def __init__(
        self, thresholds: Thresholds = DEFAULTS, state: Mapping[str, Any] | None = None
    ) -> None:
        self._thresholds = thresholds
        state = state or {}
        pending = state.get("pending")
        self._pending: Change | None = None if pending is None else restored(Change, pending)
        self._changed_s: float | None = state.get("changed_s")
        self._forced_s: float | None = state.get("forced_s")
        self._rest_until_s: dict[str, float] = dict(state.get("rest_until_s", {}))
        self.reviews: deque[dict[str, Any]] = deque(state.get("reviews", ()), _KEPT_REVIEWS)

    def state(self) -> dict[str, Any]:
        """Return plain types that JSON takes, for the constructor of the next process."""
        return {
            "pending": self._pending and plain(self._pending),
            "changed_s": self._changed_s,
            "forced_s": self._forced_s,
            "rest_until_s": dict(self._rest_until_s),
            "reviews": list(self.reviews),
        }

    @property
    def pending(self) -> Change | None:
        """Return the change that is not reviewed yet."""
        return self._pending

    def decide(
        self,
        reading: Reading,
        recent: Sequence[Reading],
        knobs: Knobs,
        now_s: float,
        most_asked: Sequence[str] = (),
        rules_on: Collection[str] = (),
    ) -> Change | None:
        """Return what to change, None if nothing: most of the time.

        `recent`: readings before `reading`, oldest first. `most_asked`: symbols, the most asked
        first. A change that is returned counts as made. One that overtakes another before its
        review leaves that without one.
        """
        rows = [r for r in recent if 0 < reading.at_s - r.at_s <= WINDOW_S] + [reading]
        rows = rows[-_LOOKED_AT:]
        for triggers, is_forced in (
            (self._forced(rows, now_s), True),
            (self._usual(rows, now_s), False),
        ):
            after = _turned(knobs, {t.metric for t in triggers}, rows, most_asked)
            change = _change(now_s, knobs, after, triggers, is_forced, rules_on)
            if change is not None:
                return self._made(change)
        return None

    def _made(self, change: Change) -> Change:
        self._pending, self._changed_s = change, change.at_s
        if change.is_forced:
            self._forced_s = change.at_s
        return change

    def review(self, readings: Sequence[Reading], now_s: float) -> Undo | None:
        """Look at a change 12 minutes after it; return how to undo it if it made things worse.

        `readings` reach back to ten minutes before the change.
        """
        change = self._pending
        if change is None or now_s - change.at_s < REVIEW_AFTER_S:
            return None
        self._pending = None
        review = review_of(change, readings, now_s)
        self.reviews.append(review.as_dict())
        if not review.is_worse:
            return None
        self._changed_s = now_s
        self._rest_until_s |= {trigger.metric: now_s + REST_S for trigger in change.triggers}
        said = [
            METRICS[one.metric].moved(one.before_mean, one.after_mean)
            for one in review.outcomes
            if one.verdict == "worse"
        ]
        return Undo(review, f"worse since the change: {'; '.join(said)}")

    def _usual(self, rows: Sequence[Reading], now_s: float) -> tuple[Trigger, ...]:
        if _is_within(self._changed_s, COOL_DOWN_S, now_s):
            return ()
        return tuple(
            Trigger(metric, value, limit)
            for metric, limit in _LIMITS.items()
            if (value := _lasting(rows, metric, _is_beyond)) is not None
            and not self._rests(metric, now_s)
        )

    def _forced(self, rows: Sequence[Reading], now_s: float) -> tuple[Trigger, ...]:
        is_open = self._pending is not None and self._pending.is_forced
        if is_open or _is_within(self._forced_s, _FORCED_EVERY_S, now_s):
            return ()
        if not is_poor_run(rows, self._thresholds):
            return ()
        return tuple(
            Trigger(metric, value, limit)
            for metric, (value, limit) in exceeded(rows[-1], self._thresholds).items()
            if _lasting(rows, metric, self._is_exceeded) is not None
            and not self._rests(metric, now_s)
        )

    def _is_exceeded(self, reading: Reading, metric: str) -> bool:
        return metric in exceeded(reading, self._thresholds)

    def _rests(self, metric: str, now_s: float) -> bool:
        return now_s < self._rest_until_s.get(metric, -math.inf)


def _is_within(at_s: float | None, window_s: float, now_s: float) -> bool:
    return at_s is not None and now_s - at_s < window_s


def _is_beyond(reading: Reading, metric: str) -> bool:
    value, limit = reading.value(metric), _LIMITS[metric]
    if value is None:
        return False
    return value < limit if METRICS[metric].better == "higher" else value > limit


def _lasting(
    rows: Sequence[Reading], metric: str, holds: Callable[[Reading, str], bool]
) -> float | None:
    """Return the newest value if the condition holds for it and for three of all, else None."""
    held = [holds(row, metric) for row in rows]
    is_lasting = held[-1] and sum(held) >= _MUST_HOLD
    return rows[-1].value(metric) if is_lasting else None


def _change(
    now_s: float,
    before: Knobs,
    after: Knobs,
    triggers: tuple[Trigger, ...],
    is_forced: bool,
    rules_on: Collection[str],
) -> Change | None:
    """Return the change, None if there is no trigger, or nothing left to do about it."""
    wanted = [rule for trigger in triggers for rule in _RULES.get(trigger.metric, ())]
    if is_forced and triggers:
        wanted = list(ALL_RULES)
    needs = tuple(rule for rule in wanted if rule not in rules_on)
    sheds = is_forced and any(trigger.metric == MEMORY for trigger in triggers)
    if after == before and not needs and not sheds:
        return None
    said = ", ".join(f"{t.metric} {t.value:.4g} (limit {t.limit:g})" for t in triggers)
    run = "five poor readings in a row: " if is_forced else ""
    return Change(now_s, before, after, run + said, triggers, needs, is_forced, sheds)


def _turned(
    knobs: Knobs, metrics: Collection[str], rows: Sequence[Reading], most_asked: Sequence[str]
) -> Knobs:
    after = knobs
    if MEMORY in metrics:
        after = replace(after, cache_share=max(CACHE_SHARES[0], 0.7 * after.cache_share))
    if RESPONSE in metrics or CPU in metrics:
        after = replace(after, task_at_once=max(1, after.task_at_once // 2))
        if _is_loaded(rows):  # fewer and larger messages cost less
            batch_ms = min(BATCH_MS_MOST, max(1.0, 2 * after.batch_ms))
            after = replace(after, batch_ms=max(after.batch_ms, batch_ms))
    if HITS in metrics:
        factor = min(TTL_FACTORS[1], 1.5 * after.ttl_factor)
        prefetch = tuple(most_asked[:PREFETCHED]) or after.prefetch
        after = replace(after, ttl_factor=factor, prefetch=prefetch)
    return after


def _is_loaded(rows: Sequence[Reading]) -> bool:
    """Return whether the machine is busy, by what is poor for a CPU."""
    return sum(r.cpu_percent > DEFAULTS.cpu_percent for r in rows) >= _MUST_HOLD
