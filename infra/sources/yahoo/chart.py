"""A chart's rows as bars: as traded, with their factors, the open one apart."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from infra.bars import NS_PER_DAY, Bars, Floats, History, Ints
from infra.errors import SourceMalformed
from infra.periods import day_ns
from infra.sources.base import Action
from infra.sources.yahoo.answers import NAME, number
from infra.sources.yahoo.rows import (
    Rows,
    exchange_days,
    good_rows,
    good_volume,
    last_of_each,
)

_STEP_S = {
    "1m": 60, "2m": 120, "5m": 300, "15m": 900, "30m": 1800, "60m": 3600, "90m": 5400, "1h": 3600,
}  # fmt: skip

# Where quotes are late, the last trades of a session come after its end; none later than so.
_LATE_S = 30 * 60
_HALF_ULP = 2.0**-24  # of a 32-bit float, relative


@dataclass(frozen=True, slots=True)
class Period:
    """The regular session, Unix seconds; `traded_at_s`: its last trade so far."""

    start_s: int
    end_s: int
    traded_at_s: int

    def is_over(self, now_s: float) -> bool:
        """Return whether its bar is final: the end was traded, or the late ones had their time."""
        told_of_end = self.traded_at_s >= self.end_s
        return now_s >= self.end_s + (0 if told_of_end else _LATE_S)


def read_events(
    events: Any, symbol: str, zone: ZoneInfo, rejected: Counter[str]
) -> tuple[Action, ...]:
    """Return the splits and dividends of a chart's `events`, oldest first."""
    found: list[Action] = []
    groups = events if isinstance(events, dict) else {}
    for name in ("splits", "dividends"):
        group = groups.get(name)
        for event in group.values() if isinstance(group, dict) else ():
            action = _action(name, event, symbol, zone)
            if action is None:
                rejected["event"] += 1
            else:
                found.append(action)
    return tuple(sorted(found, key=lambda action: action.ex_date))


def make_history(
    symbol: str,
    interval: str,
    rows: Rows,
    actions: Iterable[Action],
    period: Period,
    zone: ZoneInfo,
    now_s: float,
    rejected: Counter[str],
) -> tuple[History, tuple[Action, ...]]:
    """Return the bars, and the actions with the steps that they made in adjusted prices.

    Raises SourceMalformed where no row makes sense, or bars are longer than a day.
    """
    if interval != "1d" and interval not in _STEP_S:
        raise SourceMalformed("interval", f"bars of {interval[:10]} are made from days")
    rows = good_rows(rows, rejected)
    if not len(rows):
        raise SourceMalformed("no_rows", "the chart has no bar that makes sense")
    if interval == "1d":
        days = exchange_days(rows.at_s, zone, period.traded_at_s)
        is_kept = last_of_each(days, period.traded_at_s, rows, rejected)
        rows, opened_at_ns = rows[is_kept], days[is_kept] * NS_PER_DAY
    else:
        rows = _without_live_row(rows, _STEP_S[interval], period)
        stamps = rows.at_s.astype(np.int64)
        is_kept = last_of_each(stamps, period.traded_at_s, rows, rejected)
        rows, opened_at_ns = rows[is_kept], stamps[is_kept] * 10**9
    is_open = _last_is_open(int(opened_at_ns[-1]), interval, period, zone, now_s)
    return _history(
        symbol, interval, rows, opened_at_ns, is_open, tuple(actions), zone, now_s, rejected
    )


def _history(
    symbol: str,
    interval: str,
    rows: Rows,
    opened_at_ns: Ints,
    is_open: bool,
    actions: tuple[Action, ...],
    zone: ZoneInfo,
    now_s: float,
    rejected: Counter[str],
) -> tuple[History, tuple[Action, ...]]:
    good = np.isfinite(rows.adjusted) & (rows.adjusted > 0)
    good[-1] |= is_open  # the open bar's factor is 1, whatever its adjusted close
    wrong = int(np.count_nonzero(~good))
    if wrong:
        rejected["bad_adjclose"] += wrong
    rows, opened_at_ns = rows[good], opened_at_ns[good]
    if not len(rows):
        raise SourceMalformed("no_rows", "no bar has an adjusted close")
    ratio = _splits_after(opened_at_ns, actions, interval, zone)
    factor = rows.adjusted / rows.close / ratio
    if is_open:
        factor[-1] = 1.0 / ratio[-1]
    bars = _as_traded(rows, opened_at_ns, ratio, rejected)
    if interval == "1d":
        actions = _with_steps(actions, opened_at_ns, factor)
    closed = len(bars) - 1 if is_open else len(bars)
    factor, ratio = factor[:closed], ratio[:closed]
    factor.flags.writeable = ratio.flags.writeable = False
    history = History(
        symbol=symbol,
        bars=bars[:closed],
        open_bar=bars[closed:],
        price_factor=factor,
        volume_factor=ratio,
        data_version=f"{NAME}-{interval}-{_digest(bars[:closed], factor, ratio)}",
        changed_at_s=now_s,
        source=NAME,
        interval=interval,
    )
    return history, actions


def _last_is_open(
    last_ns: int, interval: str, period: Period, zone: ZoneInfo, now_s: float
) -> bool:
    if interval != "1d":
        return now_s < last_ns // 10**9 + _STEP_S[interval]
    session = datetime.fromtimestamp(period.start_s, zone).date()
    return last_ns >= day_ns(session) and not period.is_over(now_s)


def _without_live_row(rows: Rows, step_s: int, period: Period) -> Rows:
    """Return the rows with the last trade, which Yahoo appends as a row, in the bar it is of."""
    if int(rows.at_s[-1]) != period.traded_at_s:
        return rows
    into_s = min(period.traded_at_s, period.end_s - 1) - period.start_s
    slot_s = float(period.start_s + into_s // step_s * step_s)
    if into_s < 0 or slot_s == rows.at_s[-1]:
        return rows
    if len(rows) == 1 or rows.at_s[-2] < slot_s:
        return replace(rows, at_s=np.r_[rows.at_s[:-1], slot_s])
    return replace(
        rows[np.arange(len(rows) - 1)],
        high=np.r_[rows.high[:-2], max(rows.high[-2:])],
        low=np.r_[rows.low[:-2], min(rows.low[-2:])],
        close=np.r_[rows.close[:-2], rows.close[-1]],
        adjusted=np.r_[rows.adjusted[:-2], rows.adjusted[-1]],
        volume=np.r_[rows.volume[:-2], np.nansum(rows.volume[-2:])],
    )


def _splits_after(
    opened_at_ns: Ints, actions: Iterable[Action], interval: str, zone: ZoneInfo
) -> Floats:
    """Return for each bar the product of the ratios of all splits with a later ex-date."""
    splits = [action for action in actions if action.kind == "split"]
    if interval == "1d":
        starts = [day_ns(split.ex_date) for split in splits]
    else:
        midnights = (datetime.combine(split.ex_date, time(), zone) for split in splits)
        starts = [int(midnight.timestamp()) * 10**9 for midnight in midnights]
    ratios = [split.value or 1.0 for split in splits]
    products = np.r_[np.cumprod(np.array(ratios[::-1], np.float64))[::-1], 1.0]
    after: Floats = products[np.searchsorted(np.array(starts, np.int64), opened_at_ns, "right")]
    return after


def _as_traded(rows: Rows, opened_at_ns: Ints, ratio: Floats, rejected: Counter[str]) -> Bars:
    volume = np.rint(good_volume(rows, rejected) / ratio).astype(np.int64)
    prices = (rows.open, rows.high, rows.low, rows.close)
    open_, high, low, close = (_written(price, ratio) for price in prices)
    return Bars(opened_at_ns, open_, high, low, close, volume)


def _written(price: Floats, ratio: Floats) -> Floats:
    """Return the traded price as it is written, where Yahoo's is a widened 32-bit float.

    187.14999389648438 is 187.15: the price of fewest decimals, two to four, that is the same in
    32 bits. Prices that never were in 32 bits are left alone.
    """
    traded: Floats = price * ratio
    with np.errstate(over="ignore"):  # a price beyond 32 bits never was in them
        is_widened = price == price.astype(np.float32)
    for decimals in (4, 3, 2):
        near = np.round(traded, decimals)
        is_same = is_widened & (np.abs(near - traded) <= _HALF_ULP * traded)
        traded = np.where(is_same, near, traded)
    return traded


def _with_steps(
    actions: tuple[Action, ...], opened_at_ns: Ints, factor: Floats
) -> tuple[Action, ...]:
    """Return daily actions with the jump of the adjusted price that the factors show."""
    ratios = {action.ex_date: action.value for action in actions if action.kind == "split"}
    done = []
    for action in actions:
        step = action.price_step
        row = int(np.searchsorted(opened_at_ns, day_ns(action.ex_date)))
        if action.kind == "dividend" and 0 < row < len(factor):
            step = float(factor[row] / factor[row - 1]) / (ratios.get(action.ex_date) or 1.0)
        done.append(replace(action, price_step=step))
    return tuple(done)


def _action(name: str, event: Any, symbol: str, zone: ZoneInfo) -> Action | None:
    if not isinstance(event, dict):
        return None
    at_s = number(event.get("date"))
    if at_s is None or not abs(at_s) < 2**33:
        return None
    ex_date = datetime.fromtimestamp(at_s, zone).date()
    if name == "dividends":
        amount = number(event.get("amount"))
        return Action(symbol, ex_date, "dividend", amount) if amount and amount > 0 else None
    new, old = number(event.get("numerator")), number(event.get("denominator"))
    if not new or not old or new / old <= 0:
        return None
    return Action(symbol, ex_date, "split", new / old, new / old)


def _digest(closed: Bars, price_factor: Floats, volume_factor: Floats) -> str:
    digest = hashlib.blake2b(digest_size=8)
    columns = (getattr(closed, name) for name in closed.__slots__)
    for column in (*columns, price_factor, volume_factor):
        digest.update(column.tobytes())
    return digest.hexdigest()
