"""Conditions over histories: which symbols fulfil them, and by which values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.indicators.language import (
    Arithmetic,
    Call,
    Comparison,
    Condition,
    Crossing,
    Either,
    Field,
    Inverse,
    Number,
    Output,
    Value,
)
from infra.bars import Bars, Floats

Lines = dict[tuple[Call, str], Floats]

_COMPARE = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}
_CALCULATE = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}


class Screen:
    """One condition, asked of one symbol's bars after another's.

    It holds or not at the last bar given; where a value is missing (too few bars, nothing
    traded, a division by zero) nothing that needs it holds, and neither does its inverse.
    """

    def __init__(self, condition: Condition, calls: tuple[Call, ...]) -> None:
        self._condition = condition
        self._calls = calls

    def holds(self, bars: Bars) -> tuple[bool, dict[str, float | None]]:
        """Return whether the condition holds, and the indicators' last values by name."""
        if len(bars) == 0:
            return False, {}
        lines: Lines = {}
        for call in self._calls:
            for name, line in call.function.compute(bars, call.params).items():
                lines[call, name] = line
        found = _truth(self._condition, bars, lines)
        return found is True, {"close": float(bars.close[-1])} | _shown(lines)


class Ranking:
    """One value, asked of one symbol's bars after another's."""

    def __init__(self, value: Value, calls: tuple[Call, ...]) -> None:
        self._value = value
        self._calls = calls

    def of(self, bars: Bars) -> float | None:
        """Return the value at the last bar, None where there is none."""
        if len(bars) == 0:
            return None
        lines: Lines = {}
        for call in self._calls:
            for name, line in call.function.compute(bars, call.params).items():
                lines[call, name] = line
        found = float(_tail(self._value, bars, lines, 1)[-1])
        return found if np.isfinite(found) else None


def _shown(lines: Lines) -> dict[str, float | None]:
    shown: dict[str, float | None] = {}
    for (call, name), line in lines.items():
        outputs = call.function.outputs
        key = call.text if len(outputs) == 1 else f"{call.text}.{name}"
        shown[key] = float(line[-1]) if np.isfinite(line[-1]) else None
    return shown


def _truth(node: Condition, bars: Bars, lines: Lines) -> bool | None:
    """Return True, False, or None where that cannot be said."""
    if isinstance(node, Comparison):
        left, right = _tail(node.left, bars, lines, 1), _tail(node.right, bars, lines, 1)
        if not (np.isfinite(left[-1]) and np.isfinite(right[-1])):
            return None
        return bool(_COMPARE[node.sign](left[-1], right[-1]))
    if isinstance(node, Crossing):
        return _crossed(node, bars, lines)
    if isinstance(node, Inverse):
        inner = _truth(node.part, bars, lines)
        return None if inner is None else not inner
    parts = [_truth(part, bars, lines) for part in node.parts]
    decisive = isinstance(node, Either)
    if decisive in parts:
        return decisive
    return None if None in parts else not decisive


def _crossed(node: Crossing, bars: Bars, lines: Lines) -> bool | None:
    count = node.within + 1
    difference = _tail(node.left, bars, lines, count) - _tail(node.right, bars, lines, count)
    if not np.isfinite(difference[-2:]).all() or len(difference) < 2:
        return None
    if not node.above:
        difference = -difference
    before, after = difference[:-1], difference[1:]
    return bool(np.any((before <= 0) & (after > 0)))


def _tail(node: Value, bars: Bars, lines: Lines, count: int) -> NDArray[Any]:
    """Return a value at the last `count` bars, NaN where there is none."""
    if isinstance(node, Number):
        return np.full(count, node.value)
    if isinstance(node, Arithmetic):
        left, right = _tail(node.left, bars, lines, count), _tail(node.right, bars, lines, count)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.asarray(_CALCULATE[node.sign](left, right), np.float64)
    line = lines[node.call, node.name] if isinstance(node, Output) else _field(node, bars)
    stop = len(line) - node.back
    part = line[max(0, stop - count) : max(0, stop)]
    return np.concatenate((np.full(count - len(part), np.nan), part))


def _field(node: Field, bars: Bars) -> NDArray[Any]:
    return np.asarray(getattr(bars, node.name), np.float64)
