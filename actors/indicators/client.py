"""The indicators as others see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.indicators.correlation import Correlation
from actors.indicators.expressions import LiveCondition
from actors.indicators.names import METHODS, NAMES, is_of_the_six, parse_names
from actors.indicators.tables import (
    BULLISH,
    SIGNAL_TYPES,
    IndicatorTable,
    LiveWant,
    Match,
    Sentiment,
    Signal,
)
from actors.runtime import ActorClient

if TYPE_CHECKING:
    from actors.indicators.actor import IndicatorActor as Methods
else:
    Methods = object

__all__ = [
    "BULLISH",
    "INDICATORS",
    "METHODS",
    "NAMES",
    "SIGNAL_TYPES",
    "Correlation",
    "IndicatorClient",
    "IndicatorTable",
    "LiveCondition",
    "LiveWant",
    "Match",
    "Sentiment",
    "Signal",
    "is_of_the_six",
    "parse_names",
]

INDICATORS = "finstage-indicators"


class IndicatorClient(ActorClient, Methods):
    """The exposed methods of the IndicatorActor, from any process."""

    actor_name = INDICATORS
    first_wait_s = 35.0
