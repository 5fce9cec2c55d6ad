"""The market of the monitored symbols: mood, sectors, forecasts, risk."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, Literal

import numpy as np

from infra.bars import BarSeries, Floats, Ints, joined_sources
from infra.clock import utc
from infra.db.contents import Content
from infra.db.unit import Unit
from infra.errors import FinstageError
from infra.sources.origin import label_of
from pipelines.api import TaskContext, TaskPriority, task
from pipelines.forecast import can_forecast, forecast
from pipelines.jobs.base import JobFailed
from pipelines.market_figures import (
    breadth,
    drawdown_pct,
    mean_change_pct,
    mean_correlation,
    panel,
    value_at_risk_pct,
    volatility_pct,
)
from pipelines.tasks.names import all_failed

Kind = Literal["comprehensive", "sentiment", "sector", "predictions", "risk"]
_PERIOD = "2y"  # a year of sessions beside what means of 200 need
_NAMED = 3
_MONTH, _YEAR = 21, 252
_NEWS_DAYS, _ARTICLES = 7, 20  # how old, and how many of each symbol


@dataclass(frozen=True)
class _Held:
    """The monitored symbols: opening times (ns) and closes of each, or why it has none."""

    asked: int
    series: dict[str, tuple[Ints, Floats]]
    failed: dict[str, str]
    source: str

    @cached_property
    def closes(self) -> dict[str, Floats]:
        """Closes by symbol."""
        return {symbol: closes for symbol, (_, closes) in self.series.items()}

    def share(self, count: int) -> float:
        """Return a count as a share of all monitored symbols, those that failed too."""
        return count / self.asked


@task("market_analysis", priority=TaskPriority.NORMAL, max_retries=2, timeout_s=900)
async def market_analysis(
    ctx: TaskContext, analysis_type: Kind = "comprehensive"
) -> dict[str, Any]:
    """Analyse the monitored symbols; stages that were not asked for are None.

    `confidence_score`, 0 to 1: of predictions the share of forecasts that were right out of
    sample, None without any; of the rest the share of the monitored symbols with enough bars.
    Raises JobFailed if no symbol has bars, or what a retry may help.
    """
    began_s, started = time.monotonic(), utc(ctx.services.clock.time_s())
    ctx.progress(5, "histories")
    held = await _held(ctx)
    stages: dict[str, Callable[[], Any]] = {
        "sentiment": lambda: _sentiment(ctx, held),
        "sector": lambda: _sectors(ctx, held),
        "predictions": lambda: _predictions(ctx, held),
        "risk": lambda: _risk(ctx, held),
    }
    wanted = list(stages) if analysis_type == "comprehensive" else [analysis_type]
    found: dict[str, Any] = dict.fromkeys(stages)
    for number, name in enumerate(wanted):
        ctx.progress(20 + 80 * number / len(wanted), name)
        found[name] = await stages[name]()
    return {
        "analysis_type": analysis_type,
        "started_at": started.isoformat(),
        "market_sentiment": found["sentiment"],
        "sector_analysis": found["sector"],
        "predictions": found["predictions"],
        "risk_assessment": found["risk"],
        "symbols": sorted(held.closes),
        "failed_symbols": held.failed,
        "source": held.source,
        "source_label": label_of(held.source),
        "completed_at": utc(ctx.services.clock.time_s()).isoformat(),
        "total_processing_time": time.monotonic() - began_s,
    }


async def _held(ctx: TaskContext) -> _Held:
    symbols = await ctx.services.feed.monitored()
    answers = await ctx.services.indicators.histories(symbols, _PERIOD)
    series: dict[str, tuple[Ints, Floats]] = {}
    failed: dict[str, str] = {}
    errors: list[FinstageError] = []
    for symbol, answer in answers.items():
        if not isinstance(answer, BarSeries):
            failed[symbol] = answer.message
            errors.append(answer)
        elif len(answer.bars) < 2:
            failed[symbol] = "less than two bars"
        else:
            series[symbol] = answer.bars.opened_at_ns, answer.bars.close
    if not series:
        nothing = "no monitored symbol has bars"
        raise all_failed(nothing, errors) if errors else JobFailed(nothing)
    sources = [a.source for a in answers.values() if isinstance(a, BarSeries)]
    return _Held(len(symbols), series, failed, joined_sources(sources))


async def _sentiment(ctx: TaskContext, held: _Held) -> dict[str, Any]:
    scores: dict[str, float] = {}
    for symbol in held.closes:
        try:
            _, mood = await ctx.services.indicators.sentiment(symbol)
        except FinstageError:
            continue
        if mood is not None:
            scores[symbol] = mood.ratio
    wide, news = breadth(held.closes), await _news(ctx)
    mean = float(np.mean(list(scores.values()))) if scores else None
    ranked = sorted(scores, key=lambda symbol: scores[symbol])
    findings = [
        f"{wide['advances']} symbols rose, {wide['declines']} fell by the last bar",
        f"{wide['new_highs']} closed at the high of a year, {wide['new_lows']} at the low",
    ]
    if mean is not None:
        findings.append(f"mean mood {mean:.2f} of 1; best {ranked[-1]}, worst {ranked[0]}")
    if news["mean_sentiment"] is not None:
        told = f"{news['articles']} articles of {_NEWS_DAYS} days"
        findings.append(f"mean sentiment of {told}: {news['mean_sentiment']:+.2f} of 1")
    figures = {"mean_score": mean, "scores": scores, "breadth": wide, "news": news}
    return _stage(ctx, "market_sentiment", held.share(len(scores)), findings, figures)


async def _news(ctx: TaskContext) -> dict[str, Any]:
    """Return the mean of what kept news of the last days feel, -1 to 1, and of how many."""
    since = utc(ctx.services.clock.time_s()) - timedelta(days=_NEWS_DAYS)
    symbols = await ctx.services.feed.monitored()

    async def work(unit: Unit) -> list[Content]:
        found = [await unit.contents.latest(symbol, _ARTICLES) for symbol in symbols]
        return [article for articles in found for article in articles]

    moods = [
        article.sentiment
        for article in await ctx.services.store.read(work)
        if article.sentiment is not None and article.published_at >= since
    ]
    return {"mean_sentiment": float(np.mean(moods)) if moods else None, "articles": len(moods)}


async def _sectors(ctx: TaskContext, held: _Held) -> dict[str, Any]:
    closes = held.closes
    groups: dict[str, list[str]] = defaultdict(list)
    for symbol in closes:
        groups[ctx.services.universe.category(symbol) or "other"].append(symbol)
    figures: dict[str, Any] = {}
    for name, symbols in sorted(groups.items()):
        series = [closes[symbol] for symbol in symbols]
        figures[name] = {
            "symbols": sorted(symbols),
            "change_1d_pct": mean_change_pct(series, 1),
            "change_1mo_pct": mean_change_pct(series, _MONTH),
            "change_1y_pct": mean_change_pct(series, _YEAR),
            "breadth": breadth({symbol: closes[symbol] for symbol in symbols}),
        }
    ranked = sorted(
        (name for name in figures if figures[name]["change_1mo_pct"] is not None),
        key=lambda name: -figures[name]["change_1mo_pct"],
    )
    findings = [f"{name}: {figures[name]['change_1mo_pct']:+.1f} % in a month" for name in ranked]
    known = sum(len(series) > _YEAR for series in closes.values())
    return _stage(ctx, "sector_analysis", held.share(known), findings[:_NAMED], figures)


async def _predictions(ctx: TaskContext, held: _Held) -> dict[str, Any]:
    if not can_forecast():
        return _no_predictions(ctx, "install finstage[ml]")
    # Of the same sessions, or a young symbol would tell the model of days it is tested on.
    closes = panel(held.series)
    made = await asyncio.to_thread(forecast, closes)
    if made is None:
        return _no_predictions(ctx, "too few bars to learn from")
    edge = made.accuracy - made.baseline
    findings = [
        f"right in {100 * made.accuracy:.1f} % of {made.forecasts:,} forecasts out of sample; "
        f"always the usual direction: {100 * made.baseline:.1f} %",
        "better than that" if edge > 0 else "no better than that: nothing to act on",
    ]
    figures = {
        "available": True,
        "model": "logistic regression on 5 returns and 20-bar volatility, walk-forward",
        "chance_of_rise": made.rise,
        "accuracy": made.accuracy,
        "error_rate": 1 - made.accuracy,
        "baseline_accuracy": made.baseline,
        "forecasts": made.forecasts,
        "left_out": sorted(set(held.closes) - set(made.rise)),
    }
    return _stage(ctx, "predictions", made.accuracy, findings, figures)


def _no_predictions(ctx: TaskContext, reason: str) -> dict[str, Any]:
    return _stage(ctx, "predictions", None, [reason], {"available": False, "reason": reason})


async def _risk(ctx: TaskContext, held: _Held) -> dict[str, Any]:
    year = {s: (t[-_YEAR - 1 :], c[-_YEAR - 1 :]) for s, (t, c) in held.series.items()}
    symbols: dict[str, dict[str, float | None]] = {}
    for symbol, (_, series) in year.items():
        risk = value_at_risk_pct(series)
        symbols[symbol] = {
            "sessions": len(series) - 1,
            "volatility_pct": volatility_pct(series),
            "max_drawdown_pct": drawdown_pct(series),
            "var_95_pct": None if risk is None else risk[0],
            "cvar_95_pct": None if risk is None else risk[1],
        }
    together = panel(year)
    alike = mean_correlation(list(together.values()))
    ranked = sorted(symbols, key=lambda s: -(symbols[s]["volatility_pct"] or 0.0))
    findings = [
        f"{s}: volatility {symbols[s]['volatility_pct']:.0f} % a year"
        for s in ranked[:_NAMED]
        if symbols[s]["volatility_pct"] is not None
    ]
    if alike is not None:
        findings.append(f"mean correlation {alike:.2f}")
    known = sum(len(series) > _YEAR for _, series in year.values())
    figures = {
        "symbols": symbols,
        "mean_correlation": alike,
        "correlation_symbols": sorted(together),
        "correlation_sessions": min((len(c) - 1 for c in together.values()), default=0),
    }
    return _stage(ctx, "risk_assessment", held.share(known), findings, figures)


def _stage(
    ctx: TaskContext, name: str, confidence: float | None, findings: list[str], figures: Any
) -> dict[str, Any]:
    return {
        "stage": name,
        "confidence_score": confidence,
        "key_findings": findings,
        "figures": figures,
        "processed_at": utc(ctx.services.clock.time_s()).isoformat(),
    }
