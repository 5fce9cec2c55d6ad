"""What only yfinance asks the fake Yahoo for: company calendars, and news gone wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.fakes.yahoo_faults import Answer, Fault


def _at_s(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


# Apple's of spring 2013; the estimates are made. Days of dividends are stamped midnight UTC.
_EVENTS: dict[str, dict[str, Any]] = {
    "AAPL": {
        "maxAge": 1,
        "earnings": {
            "earningsDate": [_at_s("2013-04-23 20:30"), _at_s("2013-04-29 12:00")],
            "isEarningsDateEstimate": True,
            "earningsAverage": 10.0,
            "earningsLow": 9.5,
            "earningsHigh": 11.25,
            "revenueAverage": 42_500_000_000,
            "revenueLow": 41_000_000_000,
            "revenueHigh": 45_000_000_000,
        },
        "exDividendDate": _at_s("2013-02-07"),
        "dividendDate": _at_s("2013-02-14"),
    }
}


def with_calendar(answer: Answer, symbol: str, query: Mapping[str, str]) -> Answer:
    """Return the answer of quoteSummary with the module calendarEvents, if that was asked for.

    A symbol that has none gets Yahoo's 404 where nothing else was asked for.
    """
    modules = query.get("modules", "").split(",")
    if answer.status != 200 or "calendarEvents" not in modules:
        return answer
    if symbol in _EVENTS:
        answer.payload["quoteSummary"]["result"][0]["calendarEvents"] = _EVENTS[symbol]
        return answer
    if modules != ["calendarEvents"]:
        return answer
    said = "No fundamentals data found for any of the summaryTypes=calendarEvents"
    error = {"code": "Not Found", "description": said}
    return Answer(404, {"quoteSummary": {"result": None, "error": error}})


@dataclass(frozen=True, slots=True)
class SpoiledNews(Fault):
    """The right news, the list of items changed by a function."""

    change: Callable[[list[Any]], None]

    def spoil(self, payload: Any) -> None:
        """Change the stream."""
        self.change(payload["data"]["tickerStream"]["stream"])


@dataclass(frozen=True, slots=True)
class Body(Fault):
    """A 200 with this text, said to be JSON."""

    text: str

    async def respond(self, exchange: Any) -> Any:
        """Answer with it."""
        response = Answer(200, self.text, "text/plain").response()
        response.content_type = "application/json"
        return response
