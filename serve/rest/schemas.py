"""The shapes of requests and answers, for validation and for the documentation.

Answers are rendered without passing through these models; a contract test holds real answers
against them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from serve.rest.parameters import Method, Period

# A list in a body: at the first item that is no text the rest is not looked at, since a body of
# a megabyte has half a million items, each an error of its own.
Texts = Annotated[list[str], Field(fail_fast=True)]


class Shape(BaseModel):
    """An object with exactly these members."""

    model_config = ConfigDict(extra="forbid")


class ErrorDetail(Shape):
    """Why something failed; `retryable` says whether the same call can succeed later."""

    code: str
    message: str
    retryable: bool
    request_id: str
    context: dict[str, Any] | None = None


class ErrorAnswer(Shape):
    """The body of every error but 422."""

    detail: ErrorDetail


class SymbolFailure(Shape):
    """Stands in the place of a symbol's result."""

    symbol: str
    error: ErrorDetail


_DESCRIPTIONS = {
    304: "Not changed since the ETag given.",
    401: "A key is missing or wrong.",
    403: "The host or the origin is not served.",
    404: "What is named is not known; the nearest or all known ones are named.",
    409: "Not now: it runs already.",
    413: "The body is too long.",
    429: "The key is over its requests a second.",
    501: "Not in this version.",
    503: "A part of the service, its store or its source gives no answer now; `code` says which.",
}


def documented(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI's `responses` for these codes and those that any route may give."""
    return {
        code: {"description": _DESCRIPTIONS[code]}
        | ({} if code == 304 else {"model": ErrorAnswer})
        for code in sorted({*codes, 401, 403, 413, 429})
    }


class Rsi(Shape):
    """0 to 100; the last bar's and the one's before."""

    current: float | None
    previous: float | None


class Macd(Shape):
    """In price units."""

    macd: float | None
    signal: float | None
    histogram: float | None


class CurrentMacd(Shape):
    """In price units."""

    current_macd: float | None
    current_signal: float | None
    current_histogram: float | None


class Bollinger(Shape):
    """In price units."""

    upper: float | None
    middle: float | None
    lower: float | None


class Stochastic(Shape):
    """0 to 100."""

    k_percent: float | None
    d_percent: float | None


class IndicatorValues(Shape):
    """The last value of each indicator asked for; null where there are too few bars."""

    sma: dict[str, float | None] | None = None
    ema: dict[str, float | None] | None = None
    rsi: Rsi | None = None
    macd: Macd | None = None
    bollinger: Bollinger | None = None
    stochastic: Stochastic | None = None


class Origin(Shape):
    """Which bars an answer comes from.

    `as_of`: midnight UTC of `session`, the exchange's date of the last bar used.
    `data_version` changes with the closed bars; `last_updated` is when it last did.
    """

    symbol: str
    period: Period
    interval: str
    method: Method
    data_points: int
    as_of: str | None
    session: str | None
    last_updated: str
    data_version: str
    source: str
    stale: bool


class Indicators(Origin):
    """Indicators of one symbol."""

    indicators: IndicatorValues


class Signals(Shape):
    """RSI's crossing of 70 or 30 by the last bar, and on which side of its signal MACD is."""

    rsi: Literal["overbought", "oversold"] | None
    macd: Literal["bullish", "bearish"] | None


class ComprehensiveValues(Shape):
    """The last value of all indicators."""

    sma: dict[str, float | None]
    ema: dict[str, float | None]
    rsi: Rsi
    macd: CurrentMacd
    bollinger: Bollinger
    stochastic: Stochastic


class Analysis(Origin):
    """The whole analysis of a symbol; `price_change_pct` is against the previous close."""

    timestamp: str
    current_price: float
    price_change_pct: float | None
    signals: Signals
    indicators: ComprehensiveValues


class BatchIndicatorsRequest(Shape):
    """Symbols to analyse."""

    symbols: Texts
    period: Period = "1mo"
    batch_size: int = Field(5, ge=1, le=20)


class BatchIndicators(Shape):
    """Analyses by symbol."""

    timestamp: str
    period: Period
    interval: str
    source: str
    requested_symbols: int
    analyzed_symbols: int
    batch_size: int
    results: dict[str, Analysis | SymbolFailure]


class PriceAlert(Shape):
    """Something about a price that is worth a look; `threshold` and `actual` in percent."""

    type: Literal["price_rise", "price_drop", "new_high", "drop_from_high"]
    message: str
    severity: Literal["info", "warning"]
    threshold: float | None
    actual: float


class Change(Shape):
    """A price against a base."""

    base_price: float
    change_amount: float
    change_percent: float


class RecordChange(Change):
    """A price against the all-time high, made on `record_date`."""

    record_date: str


class PriceAnalysis(Shape):
    """A price against its references; null where there is none."""

    prev_close: Change | None
    all_time_high: RecordChange | None


class PriceCheck(Shape):
    """One symbol's price, its references and alerts; both times are the market's."""

    symbol: str
    current_price: float
    timestamp: str
    as_of: str
    market_status: str
    data_version: str
    alerts: list[PriceAlert]
    analysis: PriceAnalysis


class MonitoredPrices(Shape):
    """Price checks by symbol."""

    timestamp: str
    source: str
    monitored_symbols: int
    total_alerts: int
    symbols_with_alerts: int
    results: dict[str, PriceCheck | SymbolFailure]


class HistoryBody(Shape):
    """Bars as columns, oldest first; `timestamps` are Unix seconds of the opening.

    For 1d and longer that is midnight UTC of `sessions`, the exchange's dates. `available_from`
    and `available_to` are the first and last session of all bars that can be asked for.
    """

    symbol: str
    period: Period | None
    start: str | None
    end: str | None
    interval: str
    adjusted: bool
    source: str
    data_version: str
    stale: bool
    as_of: str | None
    available_from: str | None
    available_to: str | None
    timestamps: list[int]
    sessions: list[str]
    open: list[float]
    high: list[float]
    low: list[float]
    close: list[float]
    volume: list[int]
    data_points: int


class LastPrice(Shape):
    """A price and the market's time of it; its bars where they were asked for, or why not."""

    symbol: str
    current_price: float
    as_of: str
    source: str
    data_version: str
    history: HistoryBody | None = None
    history_error: ErrorDetail | None = None


class BatchPrices(Shape):
    """Last prices by symbol."""

    timestamp: str
    source: str
    requested_symbols: int
    successful_symbols: int
    include_history: bool
    results: dict[str, LastPrice | SymbolFailure]


class ComprehensiveRequest(Shape):
    """Symbols to check and analyse."""

    symbols: Texts
    period: Period = "1mo"
    save_results: bool = False


class ComprehensiveResult(Shape):
    """Price check and analysis of one symbol."""

    price_monitoring: PriceCheck | SymbolFailure
    technical_analysis: Analysis
    data_available: bool


class Comprehensive(Shape):
    """Checks and analyses by symbol."""

    timestamp: str
    source: str
    analysis_period: Period
    interval: str
    analyzed_symbols: int
    symbols_with_data: int
    total_alerts: int
    results: dict[str, ComprehensiveResult | SymbolFailure]


class SimplePrice(Shape):
    """Last price of one symbol; both times are the market's."""

    symbol: str
    price: float
    timestamp: str
    as_of: str
    source: str
    market_status: str
    data_version: str


class SimplePrices(Shape):
    """Last prices; null where there is none, its reason under `errors`.

    `as_of` is the market's time of the newest; `data_version` is by symbol.
    """

    timestamp: str
    source: str
    as_of: str | None
    data_version: dict[str, str]
    prices: dict[str, float | None]
    errors: dict[str, ErrorDetail]


class SimpleTrend(Shape):
    """Averages of closes and the trend they show."""

    symbol: str
    period: Period
    interval: str
    data_points: int
    as_of: str | None
    session: str | None
    last_updated: str
    data_version: str
    source: str
    stale: bool
    timestamp: str
    current_price: float
    ma_20: float | None
    ma_50: float | None
    trend: Literal["bullish", "bearish", "neutral"] | None


class NoPrice(Shape):
    """Why a monitored symbol has no price.

    `cause`: that of the source's trouble, symbol_unknown, or waiting for its first price.
    """

    cause: str
    text: str
    retry_at: str | None
    retry_after_s: float | None


class SymbolFacts(Shape):
    """A symbol that the service knows; category and name are null outside the universe.

    `no_price`: why it has none, null of a symbol that has one or is not monitored.
    """

    symbol: str
    name: str | None
    category: str | None
    monitored: bool
    source: str
    no_price: NoPrice | None


class Pagination(Shape):
    """Where in a list this page is."""

    page: int
    size: int
    total: int
    total_pages: int
    has_next: bool
    has_prev: bool


class SymbolPage(Shape):
    """Symbols, in alphabetical order."""

    items: list[SymbolFacts]
    pagination: Pagination
    source: SourceState


class SymbolsRequest(Shape):
    """Symbols to add to the monitored set, or to remove."""

    symbols: Texts


class StreamingStarted(Shape):
    """What streams from now on."""

    status: str
    symbols: list[str]
    indicators: list[str]
    interval_seconds: int
    started_at: str


class AlertsSubscribed(Shape):
    """What signals are looked for from now on."""

    status: str
    symbols: list[str]
    alert_types: list[str]
    subscribed_at: str


class MonitoredSymbols(Shape):
    """The monitored set as it is now."""

    monitored: list[str]


class Alive(Shape):
    """The process answers."""

    status: Literal["alive"]
    timestamp: str
    uptime_seconds: float


class Check(Shape):
    """One thing that readiness rests on."""

    status: Literal["ok", "waiting", "away", "unknown", "compiling", "full", "busy", "degraded"]
    detail: str
    trouble: SourceTrouble | None = None


class SourceTrouble(Shape):
    """Why the source does not answer now.

    `cause`: limited, dns, refused, timeout, unreachable, failing, unauthorized, malformed, or
    waiting before the first answer. `retry_at`: when it is tried again, null where that is at the
    next question.
    """

    cause: str
    text: str
    since: str
    retry_at: str | None
    retry_after_s: float | None


class SourceState(Shape):
    """Where prices come from, and whether it answers.

    `label` says it in a few words; `notice` is for who looks at prices, empty of a live market.
    `is_made`: none of its prices was ever traded; `synthetic`: ticks between bars are made.
    """

    name: str
    label: str
    notice: str
    is_made: bool
    synthetic: bool
    status: Literal["ok", "degraded"]
    trouble: SourceTrouble | None


class Ready(Shape):
    """Whether prices can be answered; `degraded` where something beside them does not work."""

    status: Literal["ready", "degraded", "not_ready"]
    timestamp: str
    source: str
    version: str
    checks: dict[str, Check]


class QuoteBody(Shape):
    """A price; `timestamp` is the market's time, `received_at` when it came here.

    Changes are against the previous session's close; open, high, low and volume are of the
    session. `session_part`: regular, pre or post.
    """

    symbol: str
    current_price: float
    previous_price: float | None
    change_amount: float | None
    change_percent: float | None
    previous_close: float | None
    open: float
    high: float
    low: float
    volume: int
    market_status: str
    session: str
    timestamp: str
    received_at: str | None
    session_part: str
    currency: str | None
    stale: bool
    age_seconds: float | None
    source: str
    synthetic: bool


class Quotes(Shape):
    """Latest prices by symbol, and why some are missing."""

    timestamp: str
    source: str
    quotes: dict[str, QuoteBody]
    errors: dict[str, ErrorDetail]


class NewsBody(Shape):
    """One headline; times are UTC."""

    id: str
    title: str
    url: str
    publisher: str | None
    published_at: str | None
    symbols: list[str]
    summary: str | None
    source: str
    received_at: str | None


class News(Shape):
    """Headlines, newest first."""

    symbol: str
    timestamp: str
    items: list[NewsBody]


class LatestNews(Shape):
    """The newest headline."""

    symbol: str
    timestamp: str
    item: NewsBody | None


class FoundBody(Shape):
    """One result of a search."""

    symbol: str
    name: str | None
    exchange: str | None
    kind: str
    source: str


class SearchResults(Shape):
    """What was found, best first."""

    query: str
    items: list[FoundBody]


class ActionBody(Shape):
    """A split or a dividend."""

    ex_date: str
    kind: Literal["split", "dividend"]
    value: float | None
    price_step: float | None


class Actions(Shape):
    """Splits and dividends, oldest first."""

    symbol: str
    source: str
    timestamp: str
    items: list[ActionBody]


class FundamentalsBody(Shape):
    """Figures of a company."""

    symbol: str
    source: str
    received_at: str | None
    values: dict[str, float | str | None]


class MarketStatus(Shape):
    """An exchange's state by its calendar; times are UTC, null where there is none."""

    symbol: str
    market: str
    timestamp: str
    status: Literal["open", "pre", "post", "closed"]
    session: str | None
    opens_at: str | None
    closes_at: str | None
    next_open: str | None
    is_half_day: bool


class SymbolDetail(Shape):
    """What a symbol is.

    `currency` is as the source writes it: GBp are pence, of which `minor_units` make one of
    `major_currency`. `delay_s`: how late its quotes are, null if the source does not say.
    """

    symbol: str
    name: str | None
    category: str | None
    exchange: str | None
    currency: str | None
    major_currency: str | None
    minor_units: int
    time_zone: str
    kind: str
    delay_s: float | None
    source: str
    received_at: str | None
