"""Whether a change of settings helped: readings before it against those after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from actors.monitor.comparison import MeanChange, measured, percent_of, within
from actors.monitor.knobs import Change, Knobs
from actors.monitor.metrics import METRICS
from actors.monitor.plain import plain
from actors.monitor.reading import Reading

SETTLING_S = 120.0


WINDOW_S = 600.0


REVIEW_AFTER_S = SETTLING_S + WINDOW_S


LEAST_READINGS = 5


_ERROR_RATE = 0.025  # of each side


Verdict = Literal["better", "worse", "no difference", "not enough readings"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A metric in the ten minutes before a change and 2 to 12 minutes after it.

    `low` and `high`: the 95 % interval of the difference of the means, after less before, in the
    metric's unit; None with fewer than five readings on a side.
    """

    metric: str
    before_readings: int
    after_readings: int
    before_mean: float | None
    after_mean: float | None
    change_percent: float | None
    low: float | None
    high: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Review:
    """What came of a change, by its triggers' metrics."""

    at_s: float
    change: Change
    outcomes: tuple[Outcome, ...]

    @property
    def is_worse(self) -> bool:
        """Whether it is to be undone."""
        return any(outcome.verdict == "worse" for outcome in self.outcomes)

    def as_dict(self) -> dict[str, Any]:
        """Return plain types that JSON takes."""
        return {**plain(self), "is_worse": self.is_worse}


@dataclass(frozen=True, slots=True)
class Undo:
    """A change that made things worse, and the settings to go back to.

    `rules`: those that were switched on for it.
    """

    review: Review
    reason: str

    @property
    def knobs(self) -> Knobs:
        """The settings as they were before the change."""
        return self.review.change.before

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules to switch off again."""
        return self.review.change.needs_rules


def review_of(change: Change, readings: Sequence[Reading], now_s: float) -> Review:
    """Compare the triggers' metrics before and after a change."""
    at_s = change.at_s
    before = within(readings, WINDOW_S, at_s)
    after = within(readings, WINDOW_S, at_s + REVIEW_AFTER_S)
    return Review(now_s, change, tuple(outcome(t.metric, before, after) for t in change.triggers))


def outcome(metric: str, before: Sequence[Reading], after: Sequence[Reading]) -> Outcome:
    """Compare the means of a metric by Welch's t interval; readings without it are left out.

    The change was made because readings were bad, so some of what is better after it is chance.
    Neighbouring readings are alike, so the interval is narrower than it should be.
    """
    was, now = measured(before, metric), measured(after, metric)
    if min(len(was), len(now)) >= LEAST_READINGS:
        moved = MeanChange(was, now, _ERROR_RATE)
        return Outcome(
            metric, len(was), len(now), moved.was, moved.now, moved.percent, *moved.interval,
            _verdict(metric, moved),
        )  # fmt: skip
    old, new = fmean(was) if was else None, fmean(now) if now else None
    percent = None if old is None or new is None else percent_of(new - old, old)
    return Outcome(
        metric, len(was), len(now), old, new, percent, None, None, "not enough readings"
    )


def _verdict(metric: str, moved: MeanChange) -> Verdict:
    better = 1 if METRICS[metric].better == "higher" else -1
    if moved.is_certain(better):
        return "better"
    return "worse" if moved.is_certain(-better) else "no difference"
