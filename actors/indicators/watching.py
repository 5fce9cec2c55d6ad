"""Makes live conditions of what people write."""

from __future__ import annotations

from typing import Any

from actors.indicators.conditions import (
    All,
    Compared,
    Computed,
    Constant,
    Crossed,
    LiveCondition,
    Named,
    Not,
    Some,
    Term,
    Test,
)
from actors.indicators.language import (
    Arithmetic,
    Comparison,
    Crossing,
    Either,
    Every,
    Field,
    Inverse,
    Number,
    Output,
    calls_of,
    parse_condition,
)

QUOTE_NAMES = ("price", "change", "change_pct", "previous_close")
_SAME = {"price": "close"}


def compiled(text: str) -> LiveCondition:
    """Return a condition on quotes and live indicators.

    Beside the language's names it knows `price` (the close of now), `change` and `change_pct`
    against `previous_close`. Values are those of now: so many bars before, and crossings within
    several bars, raise ExpressionInvalid, as what `parse_condition` cannot read does.
    """
    node = parse_condition(text, QUOTE_NAMES)
    test = _test(node)
    calls = calls_of(node)
    names = tuple(dict.fromkeys(_names(test)))
    return LiveCondition(text, test, names, ",".join(call.text for call in calls))


def _test(node: Any) -> Test:
    if isinstance(node, Comparison):
        return Compared(node.sign, _term(node.left), _term(node.right))
    if isinstance(node, Crossing):
        return Crossed(node.above, _term(node.left), _term(node.right))
    if isinstance(node, Every):
        return All(tuple(_test(part) for part in node.parts))
    if isinstance(node, Either):
        return Some(tuple(_test(part) for part in node.parts))
    assert isinstance(node, Inverse)
    part = _test(node.part)
    return Not(part, tuple(dict.fromkeys(_names(part))))


def _term(node: Any) -> Term:
    if isinstance(node, Number):
        return Constant(node.value)
    if isinstance(node, Arithmetic):
        return Computed(node.sign, _term(node.left), _term(node.right))
    assert isinstance(node, Field | Output)
    if isinstance(node, Field):
        return Named(_SAME.get(node.name, node.name))
    return Named(f"{node.call.text}.{node.name}")


def _names(part: Test | Term) -> list[str]:
    if isinstance(part, Named):
        return [part.name]
    if isinstance(part, Constant):
        return []
    if isinstance(part, Not):
        return _names(part.part)
    if isinstance(part, All | Some):
        return [name for inner in part.parts for name in _names(inner)]
    return _names(part.left) + _names(part.right)
