"""Indicators as people write them: `rsi(21),bbands(20,2.5),cdlengulfing`, and conditions on them.

The grammar, with the usual precedence:

    condition:  condition "or" condition | condition "and" condition | "not" condition
                | "(" condition ")" | value comparison value | value crossing value ["within" bars]
    comparison: "<" | "<=" | ">" | ">=" | "==" | "!="
    crossing:   "crossed_above" | "crossed_below"
    value:      value ("+" | "-" | "*" | "/") value | "-" value | "(" value ")" | number | name
    name:       open | high | low | close | volume
                | an indicator, `sma(50)`, one of its outputs, `macd.signal`, `macd(8,21,5).signal`
                any of them so many bars before: `close[1]`, `sma(50)[5]`

Numbers are calculated as they are read: a comparison of numbers alone, and a division by 0, say
nothing of the market and are refused.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

from lark import Lark, Token, Transformer, Tree, UnexpectedInput, v_args

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
    LiveCondition,
    Number,
    Output,
    Value,
    calls_of,
)
from actors.indicators.functions import function_named
from actors.indicators.hints import hint
from infra.errors import ExpressionInvalid, ParameterInvalid, RangeInvalid

FIELDS = ("open", "high", "low", "close", "volume")
QUOTE_FIELDS = ("price", "change", "change_pct", "previous_close")
MOST_CHARS = 2_000
MOST_CALLS = 50
MOST_BARS_BACK = 500
MOST_LEVELS = 120  # of the tree that is parsed: what walks it later has to get to its end
_CALCULATE = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}

_GRAMMAR = r"""
calls: call ("," call)*
call: NAME ["(" [NUMBERS ("," NUMBERS)*] ")"]

?condition: both ("or" both)* -> any_of
?both: inverted ("and" inverted)* -> all_of
?inverted: "not" inverted -> inverse | test
?test: value COMPARISON value -> compared
    | value CROSSING value ["within" INT] -> crossed
    | "(" condition ")"
?value: product | value "+" product -> added | value "-" product -> taken
?product: signed | product "*" signed -> times | product SLASH signed -> divided
?signed: "-" signed -> negative | past
?past: atom "[" INT "]" -> before | atom
?atom: UNSIGNED -> number | call ["." NAME] -> output | "(" value ")"

SLASH: "/"
COMPARISON: "<=" | ">=" | "==" | "!=" | "<" | ">"
CROSSING: "crossed_above" | "crossed_below"
NAME: /(?!(?:and|or|not|within|crossed_above|crossed_below)\b)[A-Za-z][A-Za-z0-9_]*/
NUMBERS: /[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?/
UNSIGNED.2: /(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?/
INT.3: /\d+/
%ignore /[ \t\r\n]+/
"""


def parse_calls(text: str) -> tuple[Call, ...]:
    """Return the indicators that a list names, each once, in its order.

    Raises ExpressionInvalid for what cannot be read, ParameterInvalid for an unknown name,
    RangeInvalid for a parameter out of bounds.
    """
    found = dict.fromkeys(_parsed(text, "calls"))
    return tuple(found)


def parse_condition(text: str) -> Condition:
    """Return the condition that a text says; raises ExpressionInvalid, which says where."""
    parsed: Condition = _parsed(text, "condition")
    return parsed


def parse_live_condition(text: str) -> LiveCondition:
    """Return a condition on quotes and live indicators.

    Beside the language's names it knows `price` (the close of now), `change` and `change_pct`
    against `previous_close`. Values are those of now: so many bars before, and crossings within
    several bars, raise ExpressionInvalid, as what `parse_condition` cannot read does.
    """
    node: Condition = _parsed(text, "condition", is_live=True)
    return LiveCondition(text, node, ",".join(call.text for call in calls_of(node)))


def parse_value(text: str) -> Value:
    """Return the value that a text says, such as `close / sma(50)`; raises ExpressionInvalid."""
    parsed: Value = _parsed(text, "value")
    if isinstance(parsed, Number):
        raise ExpressionInvalid(1, "names no value of the market", text, _PLACES["value"])
    return parsed


@functools.cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, start=["calls", "condition", "value"], parser="earley", lexer="dynamic")


# Where each is asked for.
_PLACES = {"calls": ("query", "indicators"), "condition": ("body", "expression"),
           "value": ("query", "by")}  # fmt: skip


def _parsed(text: str, start: str, is_live: bool = False) -> Any:
    place = _PLACES[start]
    if len(text) > MOST_CHARS:
        raise ExpressionInvalid(MOST_CHARS, f"at most {MOST_CHARS} characters", text, place)
    try:
        tree = _parser().parse(text.lower(), start=start)
    except RecursionError:
        raise _too_deep(text, place) from None
    except UnexpectedInput as error:
        at = error.pos_in_stream
        at = len(text) if at is None or at < 0 else at
        expected = getattr(error, "allowed", None) or getattr(error, "expected", None) or ()
        told = hint([str(terminal) for terminal in expected], text, at)
        raise ExpressionInvalid(at + 1, told, text, place) from None
    if _levels(tree) > MOST_LEVELS:
        raise _too_deep(text, place)
    try:
        return _Builder(text, place, is_live).transform(tree)
    except Exception as error:
        origin = getattr(error, "orig_exc", error)
        if isinstance(origin, (ExpressionInvalid, ParameterInvalid, RangeInvalid)):
            raise origin from None
        raise


def _levels(tree: Tree[Token]) -> int:
    """Return how deep a tree is, whose depth may be more than functions can be."""
    count, level = 0, [tree]
    while level:
        count += 1
        level = [part for node in level for part in node.children if isinstance(part, Tree)]
    return count


def _too_deep(text: str, place: tuple[str, ...]) -> ExpressionInvalid:
    reason = f"nested too deeply, or too long a chain: at most {MOST_LEVELS} levels"
    return ExpressionInvalid(1, reason, text, place)


@v_args(inline=True)
class _Builder(Transformer[Token, Any]):
    """Makes values and conditions of what was parsed."""

    def __init__(self, text: str, place: tuple[str, ...], is_live: bool) -> None:
        super().__init__()
        self._text = text
        self._place = place
        self._fields = (*FIELDS, *QUOTE_FIELDS) if is_live else FIELDS
        self._is_live = is_live
        self._calls = 0

    def _invalid(self, token: Token | None, reason: str) -> ExpressionInvalid:
        start = 0 if token is None else token.start_pos
        return ExpressionInvalid((start or 0) + 1, reason, self._text, self._place)

    def calls(self, *calls: Any) -> list[Call]:
        for call in calls:
            if isinstance(call, Field):
                raise self._invalid(None, f"{call.name} is a price, not an indicator")
        return list(calls)

    def call(self, name: Token, *numbers: Token | None) -> Call | Field:
        given = [float(number) for number in numbers if number is not None]
        if str(name) in self._fields:
            if given:
                raise self._invalid(name, f"{name} takes no parameters")
            return Field("close" if name == "price" else str(name))
        self._calls += 1
        if self._calls > MOST_CALLS:
            raise self._invalid(name, f"at most {MOST_CALLS} indicators")
        try:
            function = function_named(str(name), self._fields)
            return Call(function.name, function.params(given))
        except (ParameterInvalid, RangeInvalid) as error:
            if self._place == _PLACES["calls"]:
                raise
            raise self._invalid(name, _reason(error)) from None

    def output(self, call: Call | Field, name: Token | None) -> Value:
        if isinstance(call, Field):
            if name is not None:
                raise self._invalid(name, f"{call.name} has no outputs")
            return call
        outputs = function_named(call.name).outputs
        if name is None:
            return Output(call, outputs[0])
        if str(name) not in outputs:
            said = f"{call.name} has {', '.join(outputs)}"
            raise self._invalid(name, said)
        return Output(call, str(name))

    def before(self, value: Value, bars: Token) -> Value:
        back = int(bars)
        if back > MOST_BARS_BACK:
            raise self._invalid(bars, f"at most {MOST_BARS_BACK} bars before")
        if back and self._is_live:
            raise self._invalid(bars, "live conditions look at the values of now")
        return _moved(value, back)

    def number(self, text: Token) -> Number:
        return Number(float(text))

    def negative(self, value: Value) -> Value:
        return _calculated("-", Number(0.0), value)

    def added(self, left: Value, right: Value) -> Value:
        return _calculated("+", left, right)

    def taken(self, left: Value, right: Value) -> Value:
        return _calculated("-", left, right)

    def times(self, left: Value, right: Value) -> Value:
        return _calculated("*", left, right)

    def divided(self, left: Value, sign: Token, right: Value) -> Value:
        if right == Number(0.0):
            raise self._invalid(sign, "divides by 0")
        return _calculated("/", left, right)

    def compared(self, left: Value, sign: Token, right: Value) -> Condition:
        self._check_named(sign, left, right)
        return Comparison(str(sign), left, right)

    def crossed(self, left: Value, how: Token, right: Value, within: Token | None) -> Condition:
        self._check_named(how, left, right)
        bars = 1 if within is None else int(within)
        if not 1 <= bars <= MOST_BARS_BACK:
            raise self._invalid(within, f"within 1 to {MOST_BARS_BACK} bars")
        if bars > 1 and self._is_live:
            raise self._invalid(within, "a live crossing is since the last value")
        return Crossing(str(how) == "crossed_above", left, right, bars)

    def _check_named(self, sign: Token, left: Value, right: Value) -> None:
        if isinstance(left, Number) and isinstance(right, Number):
            raise self._invalid(sign, "names no value of the market on either side")

    def any_of(self, *parts: Condition) -> Condition:
        return parts[0] if len(parts) == 1 else Either(parts)

    def all_of(self, *parts: Condition) -> Condition:
        return parts[0] if len(parts) == 1 else Every(parts)

    def inverse(self, part: Condition) -> Condition:
        return Inverse(part)


def _reason(error: ParameterInvalid | RangeInvalid) -> str:
    if isinstance(error, RangeInvalid):
        return error.message
    known = ", ".join(error.allowed)
    see = f", or see {error.catalogue}" if error.catalogue else ""
    return f"{str(error.value)[:40]!r} is not known here; use {known}{see}"


def _calculated(sign: str, left: Value, right: Value) -> Value:
    if isinstance(left, Number) and isinstance(right, Number):
        return Number(_CALCULATE[sign](left.value, right.value))
    return Arithmetic(sign, left, right)


def _moved(value: Value, back: int) -> Value:
    """Return a value so many bars earlier."""
    if isinstance(value, Field):
        return Field(value.name, value.back + back)
    if isinstance(value, Output):
        return Output(value.call, value.name, value.back + back)
    if isinstance(value, Arithmetic):
        return Arithmetic(value.sign, _moved(value.left, back), _moved(value.right, back))
    return value
