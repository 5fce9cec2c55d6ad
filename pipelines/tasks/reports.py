"""Daily and weekly reports: figures as a result, HTML and JSON as files."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import orjson

from actors.indicators.client import IndicatorTable
from infra.bars import NS_PER_DAY, Bars, Floats, joined_sources
from infra.clock import utc
from infra.errors import FinstageError, RangeInvalid
from infra.files import write_atomically
from infra.sources.origin import label_of
from pipelines.api import TaskContext, TaskPriority, task
from pipelines.driver.market import asked_symbols
from pipelines.report_html import report_page
from pipelines.tasks.names import Symbols, all_failed

_LINES = "sma(20),sma(50),sma(200),rsi(14),macd"
_CHART_BARS = 120
_NS = 10**9


@dataclass(frozen=True, slots=True)
class _Kind:
    """A report: its name, how it is called, and over how many sessions it looks back."""

    name: str
    title: str
    sessions: int


_DAILY, _WEEKLY = _Kind("daily", "Daily report", 1), _Kind("weekly", "Weekly report", 5)


@task("generate_report", priority=TaskPriority.NORMAL, max_retries=3, timeout_s=180)
async def generate_report(
    ctx: TaskContext, symbols: Symbols, date: date | None = None
) -> dict[str, Any]:
    """Report on symbols as of the last closed session, or of the last one up to a date.

    Prices are adjusted, `change_percent` is against the session before. Market cap and P/E are
    those of now, so a report of an earlier session has none. Files `files.html` and `files.json`
    are at `/api/tasks/reports/NAME`; the same report again replaces them. A symbol that fails
    carries its error; raises JobFailed if all do, or what a retry may help.
    """
    return await _report(ctx, _DAILY, symbols, date)


@task("generate_weekly_report", priority=TaskPriority.NORMAL, max_retries=3, timeout_s=180)
async def generate_weekly_report(
    ctx: TaskContext, symbols: Symbols, date: date | None = None
) -> dict[str, Any]:
    """Report as `generate_report`, with changes over five sessions and their range."""
    return await _report(ctx, _WEEKLY, symbols, date)


async def _report(
    ctx: TaskContext, kind: _Kind, symbols: list[str], day: date | None
) -> dict[str, Any]:
    began_s = time.monotonic()
    asked = asked_symbols(symbols)
    rows: dict[str, dict[str, Any]] = {}
    failed: dict[str, FinstageError] = {}
    lines: dict[str, Floats] = {}
    for number, (symbol, refused) in enumerate(asked.items()):
        ctx.progress(90 * number / len(asked), symbol)
        try:
            if refused is not None:
                raise refused
            rows[symbol], lines[symbol] = await _figures(ctx, symbol, kind, day)
        except FinstageError as error:
            failed[symbol] = error
            rows[symbol] = {"symbol": symbol, "error": error.message, "code": error.code}
    if len(failed) == len(asked):
        raise all_failed("nothing to report", failed.values())
    report_date = max(row["session"] for row in rows.values() if "session" in row)
    source = joined_sources((await ctx.services.feed.sources(list(asked))).values())
    body = {
        "report_type": kind.name,
        "report_date": report_date,
        "generated_at": utc(ctx.services.clock.time_s()).isoformat(),
        "symbols": list(asked),
        "summary": {
            "total_symbols": len(asked),
            "failed_symbols": len(failed),
            "processing_time_seconds": time.monotonic() - began_s,
        },
        "symbol_data": rows,
        "source": source,
        "source_label": label_of(source),
        "synthetic": ctx.services.source.synthetic,
    }
    ctx.progress(95, "files")
    files = await _written(ctx, kind, body, lines)
    return body | {"files": files}


async def _figures(
    ctx: TaskContext, symbol: str, kind: _Kind, day: date | None
) -> tuple[dict[str, Any], Floats]:
    services = ctx.services
    table = await services.indicators.table(symbol, _LINES, "max")
    bars = (await services.indicators.history(symbol, "max")).bars
    row = _row(bars, day)
    before = row - kind.sessions
    close = float(bars.close[row])
    base = float(bars.close[before]) if before >= 0 else None
    is_last = row == len(bars) - 1  # what is known of a company is of now
    known = await _fundamentals(ctx, symbol) if is_last else {}
    window = slice(max(0, before + 1), row + 1)
    figures = {
        "symbol": symbol,
        "session": bars.session(row).isoformat(),
        "current_price": close,
        "change_percent": None if base is None else 100 * (close / base - 1),
        "high": float(np.max(bars.high[window])),
        "low": float(np.min(bars.low[window])),
        "volume": int(np.sum(bars.volume[window])),
        "market_cap": known.get("marketCap"),
        "pe_ratio": known.get("trailingPE"),
        "technical_score": technical_score(_values(table, int(bars.opened_at_ns[row])), close),
    }
    return figures, np.array(bars.close[max(0, row + 1 - _CHART_BARS) : row + 1])


def technical_score(values: dict[str, float], close: float) -> float | None:
    """Return how many of six signs of strength there are, of those that are known, 0 to 100.

    Close above its means of 20, 50 and 200 bars; the mean of 50 above that of 200; RSI from 50 to
    70; MACD above its signal.
    """
    sma20, sma50, sma200 = (values.get(f"sma({n})") for n in (20, 50, 200))
    rsi, histogram = values.get("rsi(14)"), values.get("macd")
    signs = [
        None if sma20 is None else close > sma20,
        None if sma50 is None else close > sma50,
        None if sma200 is None else close > sma200,
        None if sma50 is None or sma200 is None else sma50 > sma200,
        None if rsi is None else 50 <= rsi <= 70,
        None if histogram is None else histogram > 0,
    ]
    known = [sign for sign in signs if sign is not None]
    return 100 * sum(known) / len(known) if known else None


def _row(bars: Bars, day: date | None) -> int:
    """Return the row of the last session, up to a date; raises RangeInvalid if there is none."""
    row = len(bars) - 1
    if day is not None:
        end_ns = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * _NS
        row = int(np.searchsorted(bars.opened_at_ns, end_ns + NS_PER_DAY)) - 1
    if row < 0:
        raise RangeInvalid(("date",), f"there is no session up to {day}")
    return row


def _values(table: IndicatorTable, at_ns: int) -> dict[str, float]:
    """Return the indicators of one bar; of MACD the histogram. Nothing for a bar it lacks."""
    row = int(np.searchsorted(table.opened_at_ns, at_ns))
    if row == len(table.opened_at_ns) or table.opened_at_ns[row] != at_ns:
        return {}
    found = {}
    for text, outputs in table.lines.items():
        line = outputs.get("histogram", next(iter(outputs.values())))
        if np.isfinite(line[row]):
            found[text] = float(line[row])
    return found


async def _fundamentals(ctx: TaskContext, symbol: str) -> dict[str, Any]:
    """Return what the source knows of a company, nothing where it knows nothing."""
    try:
        return dict((await ctx.services.feed.fundamentals(symbol)).values)
    except FinstageError:
        return {}


async def _written(
    ctx: TaskContext, kind: _Kind, body: dict[str, Any], lines: dict[str, Floats]
) -> dict[str, str]:
    """Write the files, named by what they are of, so that the same again replaces them."""
    of = hashlib.sha256(",".join(body["symbols"]).encode()).hexdigest()[:8]
    stem = f"{kind.name}-{body['report_date']}-{of}"
    folder = ctx.services.settings.data_dir / "reports"
    note = f"As of {body['report_date']}, source {body['source_label']}"
    page = report_page(f"{kind.title} of {body['report_date']}", note, body["symbol_data"], lines)

    def write() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{stem}.html", page.encode())
        write_atomically(folder / f"{stem}.json", orjson.dumps(body))

    await asyncio.to_thread(write)
    return {"html": f"{stem}.html", "json": f"{stem}.json"}
