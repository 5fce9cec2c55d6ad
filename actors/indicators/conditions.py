"""Conditions on the values of now, such as `price > 200 and rsi(14) < 30`, ready to be asked.

It is made where the language is known (actors.indicators.watching) and asked wherever values come;
so this module knows neither indicators nor their kernels.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Values = Mapping[str, float | None]

_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}
_ABOVE, _BELOW = (">", ">="), ("<", "<=")


@dataclass(frozen=True, slots=True)
class Constant:
    """A number."""

    value: float

    def of(self, values: Values) -> float | None:
        """Return it."""
        return self.value


@dataclass(frozen=True, slots=True)
class Named:
    """A value by its name: a field of the quote, or `rsi(14).rsi`."""

    name: str

    def of(self, values: Values) -> float | None:
        """Return it, None where it is not known."""
        return values.get(self.name)


@dataclass(frozen=True, slots=True)
class Computed:
    """Two values and `+`, `-`, `*` or `/` between them; None where one is not known."""

    sign: str
    left: Term
    right: Term

    def of(self, values: Values) -> float | None:
        """Return it, None also where it divides by zero."""
        left, right = self.left.of(values), self.right.of(values)
        if left is None or right is None:
            return None
        if self.sign == "/":
            return left / right if right else None
        return _ARITHMETIC[self.sign](left, right)


Term = Constant | Named | Computed


@dataclass(frozen=True, slots=True)
class Compared:
    """Two values and `<`, `<=`, `>`, `>=`, `==` or `!=` between them."""

    sign: str
    left: Term
    right: Term

    def holds(self, now: Values, before: Values, slack_pct: float) -> bool:
        """Return whether it is so within `slack_pct` percent of the right side."""
        left, right = self.left.of(now), self.right.of(now)
        if left is None or right is None:
            return False
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
class Crossed:
    """One value went above (below) another one since the values before. Slack changes nothing."""

    above: bool
    left: Term
    right: Term

    def holds(self, now: Values, before: Values, slack_pct: float) -> bool:
        """Return whether it did; False without values before."""
        found = (
            self.left.of(now),
            self.right.of(now),
            self.left.of(before),
            self.right.of(before),
        )
        left, right, old_left, old_right = found
        if left is None or right is None or old_left is None or old_right is None:
            return False
        if self.above:
            return old_left <= old_right and left > right
        return old_left >= old_right and left < right


@dataclass(frozen=True, slots=True)
class All:
    """Each of these holds."""

    parts: tuple[Test, ...]

    def holds(self, now: Values, before: Values, slack_pct: float) -> bool:
        """Return whether they do."""
        return all(part.holds(now, before, slack_pct) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Some:
    """One of these holds, or more."""

    parts: tuple[Test, ...]

    def holds(self, now: Values, before: Values, slack_pct: float) -> bool:
        """Return whether one does."""
        return any(part.holds(now, before, slack_pct) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Not:
    """This does not hold, though every value in it is known."""

    part: Test
    names: tuple[str, ...]

    def holds(self, now: Values, before: Values, slack_pct: float) -> bool:
        """Return whether it does not; slack makes the part harder, so this easier."""
        if any(now.get(name) is None for name in self.names):
            return False
        return not self.part.holds(now, before, -slack_pct)


Test = Compared | Crossed | All | Some | Not


@dataclass(frozen=True, slots=True)
class LiveCondition:
    """A condition on quotes and live indicators.

    `names`: the values that it looks at; `indicators`: those to be made live, as a list such as
    `rsi(14),sma(50)`, empty where it looks at quotes only.
    """

    text: str
    test: Test
    names: tuple[str, ...]
    indicators: str

    def holds(self, now: Values, before: Values, slack_pct: float = 0.0) -> bool:
        """Return whether it holds; with slack, every comparison is easier by so many percent.

        A value that is not known makes its comparison false. `before`: the values of the last
        time, for crossings.
        """
        return self.test.holds(now, before, slack_pct)
