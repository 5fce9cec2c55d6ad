"""Conditions and values over many symbols at once, at the last closed bar of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from actors.indicators.expressions import (
    Arithmetic,
    Call,
    Comparison,
    Condition,
    Crossing,
    Either,
    Every,
    Field,
    Inverse,
    Number,
    Output,
    Value,
    calls_of,
)
from actors.indicators.functions import function_named
from actors.indicators.standard import finite
from actors.indicators.tables import Match
from actors.indicators.tails import DAY, Column, Key, Tails
from infra.bars import Floats, Ints

_COMPARE = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}
_CALCULATE = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}
_EPOCH = date(1970, 1, 1)

_Bools = NDArray[np.bool_]


def depth_of(node: Condition | Value) -> int:
    """Return how many of the last bars a condition or value looks at."""
    if isinstance(node, Crossing):
        return node.within + max(depth_of(node.left), depth_of(node.right))
    if isinstance(node, (Comparison, Arithmetic)):
        return max(depth_of(node.left), depth_of(node.right))
    if isinstance(node, (Every, Either)):
        return max(depth_of(part) for part in node.parts)
    if isinstance(node, Inverse):
        return depth_of(node.part)
    return 1 if isinstance(node, Number) else 1 + node.back


class Screening:
    """One question to many symbols: run `steps` to the end, then take the answer.

    A condition holds or not; where a value is missing (too few bars, nothing traded, a division
    by zero) nothing that needs it holds, and neither does its inverse.
    """

    def __init__(self, node: Condition | Value, tails: Tails, symbols: Sequence[str]) -> None:
        self._node = node
        self._symbols = symbols
        self._tails = tails
        self._calls = calls_of(node)
        depth = depth_of(node)
        keys: tuple[Key, ...] = (None, *self._calls)
        self._columns = {key: tails.column(key, depth) for key in keys}
        self._rows: Ints = tails.rows(symbols)

    def steps(self) -> Iterator[None]:
        """Compute what is not known yet, in steps of some microseconds."""
        for key, column in self._columns.items():
            yield from self._tails.fill(key, column, self._symbols)

    def matches(self) -> list[Match]:
        """Return the symbols of which the condition holds, in the order in which they were given,
        with their last close and the last value of each output."""
        truth, known = self._truth(self._node)  # type: ignore[arg-type]
        chosen = np.flatnonzero(truth & known & self._has_bars())
        shown: dict[str, Floats] = {"close": self._last(None, "close")}
        for call in self._calls:
            for name in function_named(call.name).outputs:
                shown[_shown_as(call, name)] = self._last(call, name)
        return [
            self._match(int(i), {name: finite(line[i].item()) for name, line in shown.items()})
            for i in chosen
        ]

    def ranked(self) -> list[Match]:
        """Return the symbols that have the value, the highest first."""
        values = self._tail(self._node, 1)[:, -1]  # type: ignore[arg-type]
        chosen = np.flatnonzero(np.isfinite(values) & self._has_bars())
        order = chosen[np.argsort(-values[chosen], kind="stable")]
        return [self._match(int(i), {"value": float(values[i])}) for i in order]

    def _match(self, place: int, values: dict[str, float | None]) -> Match:
        day = int(self._columns[None].tail(DAY, self._rows[place : place + 1], 0, 1)[0, 0])
        session = _EPOCH + timedelta(days=day)
        return Match(self._symbols[place], session.isoformat(), values)

    def _has_bars(self) -> _Bools:
        return np.isfinite(self._last(None, "close"))

    def _last(self, key: Key, name: str) -> Floats:
        return self._columns[key].tail(name, self._rows, 0, 1)[:, 0]

    # -- conditions: whether each holds, and whether that can be said ----------------------------

    def _truth(self, node: Condition) -> tuple[_Bools, _Bools]:
        if isinstance(node, Comparison):
            left, right = self._tail(node.left, 1)[:, 0], self._tail(node.right, 1)[:, 0]
            return _COMPARE[node.sign](left, right), np.isfinite(left) & np.isfinite(right)
        if isinstance(node, Crossing):
            return self._crossed(node)
        if isinstance(node, Inverse):
            truth, known = self._truth(node.part)
            return ~truth, known
        parts = [self._truth(part) for part in node.parts]
        is_any = isinstance(node, Either)
        decided = np.logical_or.reduce([k & (t if is_any else ~t) for t, k in parts])
        all_known = np.logical_and.reduce([k for _, k in parts])
        return np.asarray(decided if is_any else ~decided), np.asarray(decided | all_known)

    def _crossed(self, node: Crossing) -> tuple[_Bools, _Bools]:
        count = node.within + 1
        with np.errstate(invalid="ignore"):
            difference = self._tail(node.left, count) - self._tail(node.right, count)
        if not node.above:
            difference = -difference
        known = np.isfinite(difference[:, -2:]).all(axis=1)
        came = (difference[:, :-1] <= 0) & (difference[:, 1:] > 0)
        return np.asarray(came.any(axis=1)), np.asarray(known)

    # -- values: (symbols, count), the newest last -----------------------------------------------

    def _tail(self, node: Value, count: int) -> Floats:
        if isinstance(node, Number):
            return np.full((len(self._rows), count), node.value)
        if isinstance(node, Arithmetic):
            left, right = self._tail(node.left, count), self._tail(node.right, count)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                return np.asarray(_CALCULATE[node.sign](left, right), np.float64)
        if isinstance(node, Field):
            return self._columns[None].tail(node.name, self._rows, node.back, count)
        assert isinstance(node, Output)
        column: Column = self._columns[node.call]
        return column.tail(node.name, self._rows, node.back, count)


def _shown_as(call: Call, name: str) -> str:
    return call.text if len(function_named(call.name).outputs) == 1 else f"{call.text}.{name}"
