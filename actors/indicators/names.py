"""The names of indicators and methods, for those who ask and those who answer."""

from __future__ import annotations

from infra.errors import ParameterInvalid

NAMES = ("sma", "ema", "rsi", "macd", "bollinger", "stochastic")
METHODS = ("standard", "reference")


def parse_names(text: str) -> tuple[str, ...]:
    """Return the indicators that `all` or a comma list names, each once, in catalogue order.

    Raises ParameterInvalid for an unknown name, an empty one, or none.
    """
    asked = {part.strip() for part in text.split(",")}
    allowed = [*NAMES, "all"]
    for name in sorted(asked.difference(allowed)):
        raise ParameterInvalid(("query", "indicators"), name, allowed)
    return NAMES if "all" in asked else tuple(name for name in NAMES if name in asked)


def is_of_the_six(text: str) -> bool:
    """Return whether a list names none but the six that have a shape of their own, or nothing."""
    names = {part.strip() for part in text.split(",")}
    return names <= {*NAMES, "all", ""}


def check_method(method: str) -> str:
    """Return `method` if it is one of `METHODS`, else raise ParameterInvalid."""
    if method not in METHODS:
        raise ParameterInvalid(("query", "method"), method, METHODS)
    return method
