"""Values and conditions as trees, such as `rsi(14) < 30`, and what they say of the values of now.

A tree has names and parameters of indicators, nothing that computes them: whoever asks one needs
no kernels. `actors.indicators.language` makes trees of text; a value that is not known is None.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

Values = Mapping[str, float | None]

_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}
_ABOVE, _BELOW = (">", ">="), ("<", "<=")


class Call(NamedTuple):
    """An indicator with all its parameters."""

    name: str
    params: tuple[float, ...]

    @property
    def text(self) -> str:
        """Return it in one spelling: `sma(20)`, `obv`."""
        if not self.params:
            return self.name
        return f"{self.name}({','.join(f'{value:g}' for value in self.params)})"


@dataclass(frozen=True, slots=True)
class Number:
    """A constant."""

    value: float

    def of(self, values: Values) -> float | None:
        """Return it."""
        return self.value


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the bars or of the quote, so many bars before."""

    name: str
    back: int = 0

    def of(self, values: Values) -> float | None:
        """Return that of now."""
        return values.get(self.name)


@dataclass(frozen=True, slots=True)
class Output:
    """One output of an indicator, so many bars before."""

    call: Call
    name: str
    back: int = 0

    def of(self, values: Values) -> float | None:
        """Return that of now, known as `rsi(14).rsi`."""
        return values.get(_output_key(self.call, self.name))


@functools.lru_cache(maxsize=4_096)  # asked on every tick
def _output_key(call: Call, name: str) -> str:
    return f"{call.text}.{name}"


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Two values and `+`, `-`, `*` or `/` between them."""

    sign: str
    left: Value
    right: Value

    def of(self, values: Values) -> float | None:
        """Return that of now, None also where it divides by zero."""
        left, right = self.left.of(values), self.right.of(values)
        if left is None or right is None:
            return None
        if self.sign == "/":
            return left / right if right else None
        return _ARITHMETIC[self.sign](left, right)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two values and `<`, `<=`, `>`, `>=`, `==` or `!=` between them."""

    sign: str
    left: Value
    right: Value

    def truth(self, now: Values, before: Values, slack_pct: float) -> bool | None:
        """Return whether it is so within `slack_pct` percent of the right side."""
        left, right = self.left.of(now), self.right.of(now)
        if left is None or right is None:
            return None
        slack = abs(right) * slack_pct / 100
        if self.sign in _ABOVE:
            edge = right - slack
            return left > edge if self.sign == ">" else left >= edge
        if self.sign in _BELOW:
            edge = right + slack
            return left < edge if self.sign == "<" else left <= edge
        is_same = abs(left - right) <= max(0.0, slack)
        return is_same if self.sign == "==" else not is_same


@dataclass(frozen=True, slots=True)
class Crossing:
    """One value went above (below) another one within the last bars, 1 being the last."""

    above: bool
    left: Value
    right: Value
    within: int

    def truth(self, now: Values, before: Values, slack_pct: float) -> bool | None:
        """Return whether it did since the values before; slack changes nothing."""
        left, right = self.left.of(now), self.right.of(now)
        old_left, old_right = self.left.of(before), self.right.of(before)
        if left is None or right is None or old_left is None or old_right is None:
            return None
        if self.above:
            return old_left <= old_right and left > right
        return old_left >= old_right and left < right


@dataclass(frozen=True, slots=True)
class Every:
    """All of these hold."""

    parts: tuple[Condition, ...]

    def truth(self, now: Values, before: Values, slack_pct: float) -> bool | None:
        """Return whether they do; one that does not is enough to know."""
        found = [part.truth(now, before, slack_pct) for part in self.parts]
        return False if False in found else None if None in found else True


@dataclass(frozen=True, slots=True)
class Either:
    """One of these holds, or more."""

    parts: tuple[Condition, ...]

    def truth(self, now: Values, before: Values, slack_pct: float) -> bool | None:
        """Return whether one does, which is enough to know."""
        found = [part.truth(now, before, slack_pct) for part in self.parts]
        return True if True in found else None if None in found else False


@dataclass(frozen=True, slots=True)
class Inverse:
    """This does not hold."""

    part: Condition

    def truth(self, now: Values, before: Values, slack_pct: float) -> bool | None:
        """Return whether it does not; slack makes the part harder, so this easier."""
        found = self.part.truth(now, before, -slack_pct)
        return None if found is None else not found


Value = Number | Field | Output | Arithmetic
Condition = Comparison | Crossing | Every | Either | Inverse


def calls_of(node: Condition | Value) -> tuple[Call, ...]:
    """Return every indicator in a tree, each once."""
    if isinstance(node, Output):
        return (node.call,)
    if isinstance(node, Arithmetic | Comparison | Crossing):
        parts: tuple[Condition | Value, ...] = (node.left, node.right)
    elif isinstance(node, Every | Either):
        parts = node.parts
    else:
        parts = (node.part,) if isinstance(node, Inverse) else ()
    return tuple(dict.fromkeys(call for part in parts for call in calls_of(part)))


@dataclass(frozen=True, slots=True)
class LiveCondition:
    """A condition on quotes and live indicators.

    `indicators`: those to be made live, as a list such as `rsi(14),sma(50)`, empty where it looks
    at quotes only.
    """

    text: str
    node: Condition
    indicators: str

    def holds(self, now: Values, before: Values, slack_pct: float = 0.0) -> bool:
        """Return whether it holds; with slack, every comparison is easier by so many percent.

        Where that cannot be said, as a value is not known, neither it nor its inverse holds.
        `before`: the values of the last time, for crossings.
        """
        return bool(self.node.truth(now, before, slack_pct))
