"""A hundred megabytes of real bars in less memory, beside the recipe that people paste."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.report import Claim, Report, Table
from benchmarks.service import Bench
from benchmarks.stats import Summary
from infra.frames import PRICE_TOLERANCE, optimised
from infra.sources.replay import Record, load_records

NAME = "frames"
_MB = 2**20
_WHOLE_MB, _TINY_MB, _MOST_MB = 100.0, 1.0, 65.0
_PRICES = ("open", "high", "low", "close", "adj_close")
_ALL, _STOCKS, _FLOATS = "all symbols", "stocks alone", "all, volumes as float64"
_NORMAL, _AGGRESSIVE, _RECIPE = "optimised", "optimised, aggressive", "the usual recipe"

_METHOD = f"""No Ray: the real daily bars that ship with Finstage, one symbol's under another's,
again and again up to {_WHOLE_MB:g} MB (2^20 bytes, `memory_usage(deep=True)`): a date
(datetime64[ns]), five prices (float64), a volume (int64). Volumes of the two indexes reach 11
billion, above 32 bits; those of the stocks fit. A vendor's volumes become float64 by one gap, and
stay so when it is filled: hence the third frame. The usual recipe: `astype("float32")` for each
float64 column, `pd.to_numeric(downcast="integer")` for the other numbers. Changes are the largest
of a value against what it was, relative; of volumes in units too. Rounds take turns."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one way did to one frame; changes are the largest, relative and in units."""

    before_mb: float
    after_mb: float
    took_ms: Sequence[float]
    price_change: float
    volume_change: float
    volume_units: float


Way = Callable[[pd.DataFrame], pd.DataFrame]
Outcomes = Mapping[str, Mapping[str, Outcome]]  # by frame and way

_WAYS: dict[str, Way] = {
    _NORMAL: lambda frame: optimised(frame).frame,
    _AGGRESSIVE: lambda frame: optimised(frame, aggressive=True).frame,
    _RECIPE: lambda frame: _usual_recipe(frame),
}


def run(bench: Bench) -> Report:
    """Measure in this process; the service is not needed."""
    is_tiny = bench.given is not None
    size_mb, rounds = (_TINY_MB, 1) if is_tiny else (_WHOLE_MB, 7)
    records = load_records()
    stocks = {symbol: r for symbol, r in records.items() if not symbol.startswith("^")}
    makers: dict[str, Callable[[], pd.DataFrame]] = {
        _ALL: lambda: _bars(records, size_mb),
        _STOCKS: lambda: _bars(stocks, size_mb),
        _FLOATS: lambda: _bars(records, size_mb).astype({"volume": np.float64}),
    }
    outcomes = {}
    for name, make in makers.items():
        bench.tell(name)
        outcomes[name] = _measured(make(), rounds)
    return _report(outcomes)


def _bars(records: Mapping[str, Record], size_mb: float) -> pd.DataFrame:
    """Return rows of real bars that take `size_mb` or a row more, a symbol under another."""
    once = pd.concat([_table(record) for record in records.values()], ignore_index=True)
    row_bytes = sum(dtype.itemsize for dtype in once.dtypes)
    count = -int(-size_mb * _MB // row_bytes)
    times = -(-count // len(once))
    return pd.concat([once] * times, ignore_index=True).iloc[:count].copy()


def _table(record: Record) -> pd.DataFrame:
    bars = record.bars
    columns = {name: getattr(bars, name) for name in ("open", "high", "low", "close", "volume")}
    steps = np.append(record.price_step[1:], 1.0)  # what happened after each bar
    adjusted = bars.close / np.cumprod(steps[::-1])[::-1]
    dates = bars.opened_at_ns.astype("datetime64[ns]")
    return pd.DataFrame({"date": dates, **columns, "adj_close": adjusted})


def _usual_recipe(frame: pd.DataFrame) -> pd.DataFrame:
    smaller = frame.copy()
    for name in smaller.select_dtypes("number"):
        if smaller[name].dtype == np.float64:
            smaller[name] = smaller[name].astype("float32")
        else:
            smaller[name] = pd.to_numeric(smaller[name], downcast="integer")
    return smaller


def _measured(frame: pd.DataFrame, rounds: int) -> dict[str, Outcome]:
    taken_ms: dict[str, list[float]] = {name: [] for name in _WAYS}
    for _ in range(rounds):
        for name, way in _WAYS.items():
            began_s = time.perf_counter()
            way(frame)
            taken_ms[name].append((time.perf_counter() - began_s) * 1_000)
    return {name: _outcome(frame, way(frame), taken_ms[name]) for name, way in _WAYS.items()}


def _outcome(frame: pd.DataFrame, smaller: pd.DataFrame, took_ms: Sequence[float]) -> Outcome:
    return Outcome(
        _size_mb(frame),
        _size_mb(smaller),
        took_ms,
        max(_change(frame[name], smaller[name])[0] for name in _PRICES),
        *_change(frame["volume"], smaller["volume"]),
    )


def _size_mb(frame: pd.DataFrame) -> float:
    return float(frame.memory_usage(deep=True).sum()) / _MB


def _change(old: pd.Series, new: pd.Series) -> tuple[float, float]:
    """Return the largest change, relative and in units; volumes are below 2^53, so exact."""
    before = old.to_numpy(np.float64)
    units = np.abs(new.to_numpy(np.float64) - before)
    return float((units / np.abs(before)).max()), float(units.max())


def _report(outcomes: Outcomes) -> Report:
    ours = [found for ways in outcomes.values() for name, found in ways.items() if name != _RECIPE]
    recipe = outcomes[_FLOATS][_RECIPE]
    whole = outcomes[_ALL][_AGGRESSIVE]
    price_change = max(found.price_change for found in ours)
    normal_change = max(ways[_NORMAL].price_change for ways in outcomes.values())
    claims = [
        Claim(
            f"{_WHOLE_MB:g} MB of real bars take at most {_MOST_MB:g} MB, aggressive",
            f"{whole.after_mb:.1f} of {whole.before_mb:.1f} MB; stocks alone "
            f"{outcomes[_STOCKS][_AGGRESSIVE].after_mb:.1f} MB",
            whole.after_mb <= _MOST_MB * whole.before_mb / _WHOLE_MB,
        ),
        Claim(
            f"no price changes by more than {PRICE_TOLERANCE:g}, and none unless aggressive",
            f"{price_change:.1e}; {normal_change:g} unless aggressive",
            price_change <= PRICE_TOLERANCE and normal_change == 0,
        ),
        Claim(
            "volumes stay to the unit",
            f"{max(found.volume_units for found in ours):g} units; the usual recipe changes "
            f"volumes in float64 by up to {recipe.volume_units:g}",
            all(found.volume_units == 0 for found in ours),
        ),
    ]
    header = ("bars", "how", "MB", "of before", "ms, median (range)", "price", "volume", "units")
    rows = [
        _row(name, way, found) for name, ways in outcomes.items() for way, found in ways.items()
    ]
    table = Table("What they take, how long it takes, and the largest changes", header, rows)
    samples = {
        key: {
            name: {way: getattr(found, key) for way, found in ways.items()}
            for name, ways in outcomes.items()
        }
        for key in Outcome.__slots__
    }
    return Report(NAME, "Frames in less memory", _METHOD, claims, [table], samples)


def _row(name: str, way: str, found: Outcome) -> tuple[str, ...]:
    return (
        name,
        way,
        f"{found.after_mb:.1f}",
        f"{100 * found.after_mb / found.before_mb:.1f} %",
        Summary.of(found.took_ms).shown(0),
        _shown(found.price_change),
        _shown(found.volume_change),
        f"{found.volume_units:g}",
    )


def _shown(change: float) -> str:
    return f"{change:.1e}" if change else "0"
