"""Frames take less memory and read as before: over generated frames, and by hand."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import math
import tracemalloc
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, assert_type

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.frames import Optimised, optimised, optimize_dataframe_memory

NAMES = ("close", "Adj Close", "HIGH", "Volume", "rsi", "symbol", 7, ("Volume", "LOW"), ("x", "y"))
PRICES, VOLUMES = NAMES[:3], (NAMES[3], NAMES[7])
TOLERANCES = (0.0, 1e-12, 1e-7, 1e-3, 0.9)
WORDS = st.sampled_from(["AAPL", "IBM", "", "é", "é\0", "é\0a"])
ANY_WORDS = WORDS | st.sampled_from(["\ud800", repr("\ud800")])  # Arrow has no surrogates
SINGLE = st.floats(width=32)


class Side(StrEnum):
    """Text that is equal to plain text."""

    BUY = "AAPL"


VALUES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "floats": ("float64", st.floats() | SINGLE),
    "singles": ("float64", SINGLE),
    "near singles": ("float64", SINGLE.map(lambda value: value * (1 + 3e-8))),
    "small": ("float64", st.floats(-1e-37, 1e-37)),
    "whole": ("float64", st.integers(-(2**33), 2**33).map(float) | st.just(-0.0)),
    "counts": ("float64", st.integers(0, 2**32).map(float)),
    "few whole": ("float64", st.integers(-3, 200).map(float)),
    "int64": ("int64", st.integers(-(2**63), 2**63 - 1)),
    "int32": ("int64", st.integers(-(2**31), 2**31 - 1)),
    "bytes": ("int64", st.integers(-128, 255)),
    "uint64": ("uint64", st.integers(0, 2**64 - 1)),
    "uint32": ("uint32", st.integers(0, 2**32 - 1)),
    "int16": ("int16", st.integers(-(2**7), 2**7)),
    "Int64": ("Int64", st.none() | st.integers(-(2**63), 2**63 - 1)),
    "few Int64": ("Int64", st.none() | st.integers(-128, 70_000)),
    "UInt64": ("UInt64", st.none() | st.integers(0, 300)),
    "Float64": ("Float64", st.none() | st.integers(0, 9).map(float)),
    "str": ("str", st.none() | WORDS),
    "string": ("string", st.none() | st.sampled_from(["AAPL", "IBM"])),
    "text": ("object", ANY_WORDS),
    "text and NaN": ("object", ANY_WORDS | st.just(math.nan)),
    "text and None": ("object", st.none() | ANY_WORDS),
    "mixed": ("object", st.sampled_from([1, True, "1", None, 1.0, Side.BUY])),
    "enum": ("object", st.sampled_from([Side.BUY, "AAPL"])),
    "bool": ("bool", st.booleans()),
    "boolean": ("boolean", st.none() | st.booleans()),
    "dates": (
        "datetime64[ns]",
        st.none() | st.sampled_from([datetime(2020, 1, d) for d in (2, 3)]),
    ),
    "category": ("category", st.sampled_from(["AAPL", "IBM"])),
}


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    """Draw a frame of any of these columns, whose names and labels may repeat."""
    count = draw(st.integers(0, 40))
    kinds = draw(st.lists(st.sampled_from(sorted(VALUES)), max_size=5))
    columns = {}
    for place, kind in enumerate(kinds):
        dtype, values = VALUES[kind]
        drawn = draw(st.lists(values, min_size=count, max_size=count))
        columns[place] = pd.Series(drawn, dtype=dtype)
    frame = pd.DataFrame(columns, index=range(count))
    names = draw(st.lists(st.sampled_from(NAMES), min_size=len(kinds), max_size=len(kinds)))
    frame.columns = pd.Index(names, dtype=object, tupleize_cols=False)
    if draw(st.booleans()):
        frame.index = pd.Index([row // 2 for row in range(count)], name="row")
    return frame


def read(frame: pd.DataFrame) -> list[list[Any]]:
    return [frame.iloc[:, place].tolist() for place in range(frame.shape[1])]


def is_same(old: Any, new: Any, tolerance: float) -> bool:
    if type(old) is float and type(new) in (float, int):
        if math.isnan(old) or math.isinf(old) or old == 0:
            return repr(old) == repr(float(new))  # the sign of a zero too
        return math.isfinite(new) and abs(new - old) / abs(old) <= tolerance
    return type(old) is type(new) and (old is new or bool(old == new))


def tolerance_of(name: Any, aggressive: bool, tolerance: float) -> float:
    if name in VOLUMES or (name in PRICES and not aggressive):
        return 0.0
    return 1e-7 if name in PRICES else tolerance


@settings(deadline=None, max_examples=400)
@given(frames(), st.booleans(), st.sampled_from(TOLERANCES))
def test_values_stay_within_the_tolerance(
    frame: pd.DataFrame, aggressive: bool, tolerance: float
) -> None:
    kept, before = frame.copy(deep=True), read(frame)

    found = optimised(frame, aggressive=aggressive, tolerance=tolerance)

    columns = zip(frame.columns, before, read(found.frame), strict=True)
    for name, olds, news in columns:
        allowed = tolerance_of(name, aggressive, tolerance)
        pairs = zip(olds, news, strict=True)
        assert all(is_same(old, new, allowed) for old, new in pairs), (name, olds, news)
    assert found.frame.index.equals(frame.index)
    assert found.frame.index.names == frame.index.names
    assert found.frame.columns.equals(frame.columns)
    # and the original is what it was
    pd.testing.assert_frame_equal(frame, kept)
    assert [list(map(type, column)) for column in read(frame)] == [
        list(map(type, column)) for column in before
    ]


@settings(deadline=None, max_examples=400)
@given(frames(), st.booleans())
def test_a_frame_never_takes_more_and_the_report_is_true(
    frame: pd.DataFrame, aggressive: bool
) -> None:
    found = optimised(frame, aggressive=aggressive)

    assert found.before_bytes == frame.memory_usage(deep=True).sum()
    assert found.after_bytes == found.frame.memory_usage(deep=True).sum()
    saved = sum(change.before_bytes - change.after_bytes for change in found.columns)
    assert found.before_bytes - found.after_bytes == saved
    assert all(change.after_bytes < change.before_bytes for change in found.columns)
    kinds = zip(frame.dtypes, found.frame.dtypes, strict=True)
    assert sum(old != new for old, new in kinds) == len(found.columns)
    again = optimised(found.frame, aggressive=aggressive)
    assert again.after_bytes <= found.after_bytes


def kinds(found: Optimised) -> dict[Any, str]:
    return {name: str(kind) for name, kind in found.frame.dtypes.items()}


def test_frames_get_smaller_and_lose_nothing() -> None:
    frame = pd.DataFrame(
        {
            "close": [1.1, 2.2, 3.3] * 100,
            "half": [0.5, 1.5, 2.5] * 100,
            "exact": [0.1, 0.2, 0.3] * 100,
            "count": [1, 200, 3] * 100,
            "volume": [10**12, 1, 2] * 100,
            "symbol": ["AAPL"] * 300,
        }
    )
    found = optimised(frame)
    assert kinds(found) == {
        "close": "float64",
        "half": "float32",
        "exact": "float64",
        "count": "int16",
        "volume": "int64",
        "symbol": "category",
    }
    assert [change.name for change in found.columns] == ["half", "count", "symbol"]
    assert found.columns[0] == ("half", "float64", "float32", 2_400, 1_200)
    assert read(found.frame) == read(frame)
    assert found.before_mb == found.before_bytes / 2**20
    assert found.after_mb == found.after_bytes / 2**20
    lost = 1 - found.after_bytes / found.before_bytes
    assert found.reduction_pct == pytest.approx(100 * lost)
    assert found.reduction_pct > 30


def test_what_would_change_stays_as_it_is() -> None:
    frame = pd.DataFrame(
        {
            "mixed": pd.Series([1, True, "1", None] * 50, dtype=object),  # 1 and True are equal
            "absent": pd.Series(["a", None] * 100, dtype=object),  # a category's would be NaN
            "enum": pd.Series([Side.BUY, "AAPL"] * 100, dtype=object),
            "huge": [1e300, 1.0] * 100,
            "tiny": [1e-46, 1.0] * 100,
            "gaps": [0.5, np.nan] * 100,
            "edges": [np.inf, -0.0] * 100,
        }
    )
    found = optimised(frame, aggressive=True)
    assert kinds(found) == {
        "mixed": "object",
        "absent": "object",
        "enum": "object",
        "huge": "float64",
        "tiny": "float64",
        "gaps": "float32",
        "edges": "float32",
    }
    assert [type(value) for value in found.frame["enum"][:2]] == [Side, str]


def test_prices_and_volumes_change_when_asked_only() -> None:
    frame = pd.DataFrame(
        {
            "Adj Close": [431.97, 0.07],
            "CLOSE": [1.0, 2.0],  # whole, and yet a price
            "bid": [10_000_001, 3],  # in cents
            "price": [1e-40, 1.0],  # float32 has few bits for it
            "open": [1e300, 1.0],
            "Volume": [3_000_000_000.0, 0.0],
            "volume": [11_456_230_000, 1],
            "bid_size": [16_777_217.0, np.nan],
            "rsi": [50.1, 49.9],
            "split": [1.0, 2.0],
            "ratio": [0.5, 2.0],
        }
    )
    assert [c.name for c in optimised(frame).columns] == ["split", "ratio"]
    assert kinds(optimised(frame, aggressive=True)) == {
        "Adj Close": "float32",
        "CLOSE": "float32",
        "bid": "int32",
        "price": "float64",
        "open": "float64",
        "Volume": "uint32",
        "volume": "int64",
        "bid_size": "float64",
        "rsi": "float64",
        "split": "int8",
        "ratio": "float32",
    }


def test_a_tolerance_is_for_what_is_no_price() -> None:
    frame = pd.DataFrame({"close": [0.1, 0.2], "rsi": [50.1, 49.9], "bid": [1e-40, 1.0]})
    assert kinds(optimised(frame, tolerance=1e-7)) == {
        "close": "float64",
        "rsi": "float32",
        "bid": "float64",
    }
    assert kinds(optimised(frame, aggressive=True, tolerance=0.1))["bid"] == "float64"
    for wrong in (-1e-9, 1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="tolerance is relative"):
            optimised(frame, tolerance=wrong)


def test_columns_of_tuples_are_named_by_any_part() -> None:
    names = [("Close", "IBM"), ("Volume", "LOW"), ("RSI", "IBM")]
    frame = pd.DataFrame([[0.5, 20_000_001.0, 0.5]] * 3, columns=pd.MultiIndex.from_tuples(names))
    found = optimised(frame)
    assert [change.name for change in found.columns] == [("RSI", "IBM")]
    assert found.frame.columns.equals(frame.columns)
    assert kinds(optimised(frame, aggressive=True))["Volume", "LOW"] == "int32"


def test_text_becomes_categories_where_fewer_than_half_differ() -> None:
    texts = [str(number).rjust(40) for number in range(50)]
    assert kinds(optimised(pd.DataFrame({"text": texts * 2}))) == {"text": "str"}
    assert kinds(optimised(pd.DataFrame({"text": [*texts, *texts, texts[0]]}))) == {
        "text": "category"
    }


def test_labels_that_repeat_stay() -> None:
    frame = pd.DataFrame([[1, 2.5], [3, 4.5]], index=["a", "a"], columns=["n", "n"])
    frame.index.name = "label"
    found = optimised(frame).frame
    assert [str(kind) for kind in found.dtypes] == ["int8", "float32"]
    assert found.index.tolist() == ["a", "a"]
    assert found.index.name == "label"
    times = frame.set_axis(pd.DatetimeIndex(["2020-01-02"] * 2), axis=0)
    pd.testing.assert_index_equal(optimised(times, aggressive=True).frame.index, times.index)


def test_dates_stay_dates() -> None:
    days = pd.DatetimeIndex(["2020-01-02"] * 100).as_unit("ns")
    frame = pd.DataFrame({"date": days, "local": days.tz_localize("America/New_York")})
    assert optimised(frame, aggressive=True).columns == ()


@pytest.mark.parametrize(
    "frame", [pd.DataFrame(), pd.DataFrame(index=range(3)), pd.DataFrame({"a": [], "b": []})]
)
def test_an_empty_frame_comes_back(frame: pd.DataFrame) -> None:
    found = optimised(frame, aggressive=True)
    pd.testing.assert_frame_equal(found.frame, frame)
    assert found.reduction_pct == 0.0
    assert found.columns == ()


def test_the_copy_shares_no_memory_and_keeps_what_was_noted() -> None:
    frame = pd.DataFrame({"close": [1.1, 2.2], "date": pd.to_datetime(["2020-01-02"] * 2)})
    frame.attrs["source"] = "replay"
    found = optimised(frame).frame
    assert found.attrs == {"source": "replay"}
    for name in frame:
        assert not np.shares_memory(found[name].to_numpy(), frame[name].to_numpy())


def test_memory_is_given_back_and_not_only_reported() -> None:
    tracemalloc.start()
    try:
        values = np.random.default_rng(1).normal(100, 1, (200_000, 6))
        frame = pd.DataFrame(values, columns=["open", "high", "low", "close", "rsi", "ema"])
        found = optimised(frame, aggressive=True)
        del values, frame
        held_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert found.reduction_pct == pytest.approx(100 / 3, abs=0.1)
    assert held_bytes < 1.05 * found.after_bytes


@pytest.mark.parametrize("wrong", [pd.Series([1]), {"a": [1]}, None])
def test_what_is_no_frame_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"takes a DataFrame, not a .*to_frame\(\)"):
        optimised(wrong)


class Pair(NamedTuple):
    """A named tuple with a frame."""

    frame: pd.DataFrame
    note: str


def some_frame() -> pd.DataFrame:
    return pd.DataFrame({"close": [0.1, 0.2] * 100, "count": [1, 2] * 100})


def is_shrunk(frame: Any, aggressive: bool = False) -> bool:
    expected = {"close": "float32" if aggressive else "float64", "count": "int8"}
    return {name: str(kind) for name, kind in frame.dtypes.items()} == expected


def test_a_decorated_function_stays_what_it_is() -> None:
    @optimize_dataframe_memory
    def bars(symbol: str, *, days: int = 5) -> pd.DataFrame:
        """Return bars."""
        return some_frame()

    @optimize_dataframe_memory(aggressive=True)
    async def later(symbol: str) -> pd.DataFrame:
        """Return bars, later."""
        return some_frame()

    assert_type(bars("IBM", days=1), pd.DataFrame)
    assert (bars.__name__, bars.__doc__) == ("bars", "Return bars.")
    assert str(inspect.signature(bars)) == "(symbol: 'str', *, days: 'int' = 5) -> 'pd.DataFrame'"
    assert not inspect.iscoroutinefunction(bars)
    assert is_shrunk(bars("IBM"))
    assert later.__name__ == "later"
    assert inspect.iscoroutinefunction(later)
    assert list(inspect.signature(later).parameters) == ["symbol"]


async def test_an_async_function_shrinks_beside_its_loop() -> None:
    @optimize_dataframe_memory(aggressive=True)
    async def later(symbol: str) -> dict[str, pd.DataFrame]:
        await asyncio.sleep(0)
        return {symbol: some_frame()}

    found = await later("IBM")
    assert_type(found, dict[str, pd.DataFrame])
    assert is_shrunk(found["IBM"], aggressive=True)


def test_methods_partials_and_callables_are_decorated() -> None:
    class Desk:
        @optimize_dataframe_memory
        def bars(self) -> pd.DataFrame:
            return some_frame()

        @staticmethod
        @optimize_dataframe_memory
        def more() -> pd.DataFrame:
            return some_frame()

        async def __call__(self) -> pd.DataFrame:
            return some_frame()

    assert is_shrunk(Desk().bars())
    assert is_shrunk(Desk.more())
    assert is_shrunk(optimize_dataframe_memory(functools.partial(Desk().bars))())
    assert is_shrunk(optimize_dataframe_memory(Desk().bars, aggressive=True)(), aggressive=True)
    called = optimize_dataframe_memory(Desk())
    assert inspect.iscoroutinefunction(called)
    assert is_shrunk(asyncio.run(called()))


def returned(value: Any) -> Any:
    return optimize_dataframe_memory(lambda: value)()


def test_frames_in_containers_are_shrunk_in_a_copy() -> None:
    frame, note = some_frame(), object()
    held: OrderedDict[str, Any] = OrderedDict(IBM=frame, note=note, deep={"IBM": frame})
    for container in (dict(held), held):
        found = returned(container)
        assert type(found) is type(container)
        assert list(found) == list(container)
        assert is_shrunk(found["IBM"])
        assert found["note"] is note
        assert found["deep"]["IBM"] is frame  # one level
        assert container["IBM"] is frame
    for items in ([frame, note], (frame, note)):
        found = returned(items)
        assert type(found) is type(items)
        assert is_shrunk(found[0])
        assert found[1] is note
        assert items[0] is frame
    pair = returned(Pair(frame, "note"))
    assert isinstance(pair, Pair)
    assert is_shrunk(pair.frame)


@pytest.mark.parametrize("value", [None, 1, "text", {"a": 1}, [1], (), pd.Series([1]), object()])
def test_anything_else_is_returned_as_it_is(value: Any) -> None:
    assert returned(value) is value


def test_what_raises_raises() -> None:
    @optimize_dataframe_memory
    def broken() -> pd.DataFrame:
        raise LookupError("IBM")

    with pytest.raises(LookupError, match="IBM"):
        broken()


def numbers() -> Iterator[pd.DataFrame]:
    yield some_frame()


async def numbers_later() -> AsyncIterator[pd.DataFrame]:
    yield some_frame()


@pytest.mark.parametrize("function", [numbers, numbers_later, functools.partial(numbers)])
def test_generators_are_refused_where_they_are_declared(function: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match=r"yield optimised\(frame\)\.frame"):
        optimize_dataframe_memory(function)
    with pytest.raises(TypeError, match="a generator yields"):
        optimize_dataframe_memory(aggressive=True)(function)


@pytest.mark.parametrize(
    ("wrong", "fix"),
    [
        (some_frame(), r"optimised\(frame\)\.frame"),
        (True, r"@optimize_dataframe_memory\(aggressive=True\)"),
        (pd.Series([1]), "not a Series"),
        (pd.DataFrame, "not a type"),
        (staticmethod(some_frame), "below @staticmethod"),
        (classmethod(some_frame), "below @staticmethod and @classmethod"),  # type: ignore[arg-type]
    ],
)
def test_a_misuse_names_what_to_do_instead(wrong: Any, fix: str) -> None:
    with pytest.raises(TypeError, match=fix):
        optimize_dataframe_memory(wrong)
    with pytest.raises(TypeError, match=fix):
        optimize_dataframe_memory(wrong, aggressive=True)
    with pytest.raises(TypeError, match=fix):
        optimize_dataframe_memory()(wrong)


def test_the_report_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "infra.frames")
    optimize_dataframe_memory(some_frame)()
    (record,) = caplog.records
    assert (record.levelno, record.message) == (logging.DEBUG, "frame.optimised")
    facts = vars(record)
    assert facts["function"] == "some_frame"
    assert facts["after_bytes"] < facts["before_bytes"]
    assert facts["columns"] == ["count: int64 to int8"]
