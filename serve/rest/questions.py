"""The questions whose answers are kept, each as a value: equal ones have equal answers."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import get_args
from urllib.parse import parse_qsl

from actors.indicators.client import METHODS, NAMES
from infra.errors import FinstageError
from infra.symbols import normalise
from serve.edge.near import RawKey, Rendered
from serve.rest.answers import Question
from serve.rest.parameters import Period
from serve.rest.services import Services

INDICATORS_PATH = "/api/v2/technical-analysis/indicators/"
INDICATORS_ROUTE = INDICATORS_PATH + "{symbol}"
_PLAIN = {"period", "interval", "method", "indicators"}
_PERIODS = frozenset(get_args(Period))


@dataclass(frozen=True, slots=True)
class IndicatorQuestion(Question):
    """Latest indicators of one symbol, from closed bars."""

    symbol: str
    period: str
    interval: str
    names: tuple[str, ...]
    method: str

    async def render(self, services: Services) -> Rendered:
        """Ask the indicators; raises SymbolUnknown or ActorUnavailable."""
        version, body, stale_since_s = await services.indicators.indicators_json(
            self.symbol, self.period, self.interval, self.names, self.method
        )
        return services.rendered(
            body, self.symbol, version, INDICATORS_ROUTE, self.interval, stale_since_s
        )


def default_question(symbol: str) -> IndicatorQuestion:
    """Return the question of who names nothing but a symbol."""
    return IndicatorQuestion(symbol, "1mo", "1d", NAMES, METHODS[0])


def quick_answer(
    services: Services, path: str, query: bytes
) -> Callable[[], Awaitable[Rendered]] | None:
    """Return what answers a plain question, or None for what the application must look at.

    The edge asks here before it asks the application, whose parsing costs more than the answer.
    Whatever is not plainly right is left to the application, which says what is wrong.
    """
    if not path.startswith(INDICATORS_PATH):
        return None
    question = _indicator_question(path.removeprefix(INDICATORS_PATH), query, services)
    if question is None:
        return None
    return functools.partial(_answer, question, services, (path, query))


async def _answer(question: IndicatorQuestion, services: Services, raw: RawKey) -> Rendered:
    entry = await question.answer(services)
    services.near.alias(raw, question)
    return entry


def _indicator_question(symbol: str, query: bytes, services: Services) -> IndicatorQuestion | None:
    given = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    period, interval = given.get("period", "1mo"), given.get("interval", "1d")
    method = given.get("method", "standard")
    plain = (
        given.keys() <= _PLAIN
        and given.get("indicators", "all") == "all"
        and period in _PERIODS
        and interval in services.source.intervals
        and method in METHODS
    )
    if not plain:
        return None
    try:
        return IndicatorQuestion(normalise(symbol), period, interval, NAMES, method)
    except FinstageError:
        return None
