"""Parameters that several routes share, each with its meaning for the documentation."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import Annotated, Literal

from fastapi import Path, Query, Request
from pydantic import Field

from infra.errors import BodyInvalid

Period = Literal["1d", "5d", "1mo", "3mo", "6mo", "1y", "2y", "5y", "10y", "ytd", "max"]
Interval = Literal[
    "1m", "2m", "5m", "15m", "30m", "60m", "90m", "1h", "1d", "5d", "1wk", "1mo", "3mo"
]
Method = Literal["standard", "reference"]

# Times are nanoseconds in 64 bits, from 1677 to 2262; windows reach some years beyond a date.
Day = Annotated[date, Field(ge=date(1700, 1, 1), le=date(2200, 12, 31))]

SymbolPath = Annotated[
    str, Path(description="A symbol in Yahoo's spelling, such as AAPL or ^GSPC.", max_length=300)
]
SymbolsQuery = Annotated[str, Query(description="Symbols, comma separated.")]
PeriodQuery = Annotated[
    Period, Query(description="How far back from the last bar the answer reports.")
]
IntervalQuery = Annotated[
    Interval, Query(description="Length of a bar. The replay source has 1d and longer.")
]
MethodQuery = Annotated[
    Method,
    Query(description="`reference`: Cutler's RSI, adjusted EMA in MACD, sample deviation."),
]
OpenBarQuery = Annotated[
    bool, Query(description="Count the bar of the session under way, which still changes.")
]
DateQuery = Annotated[Day | None, Query(description="A date of the exchange.")]


def check_carried(request: Request, names: Collection[str]) -> None:
    """Raise BodyInvalid for a parameter of the query that the body sent with it carries itself."""
    for name in names:
        if name in request.query_params:
            told = f"{name} is not read from the query beside an object: put it in the body"
            raise BodyInvalid(("query", name), told)
