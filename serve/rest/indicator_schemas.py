"""The shapes of the catalogue, of named indicators, screens, rankings and correlations."""

from __future__ import annotations

from pydantic import Field

from serve.rest.parameters import Day, Interval
from serve.rest.schemas import ErrorDetail, Origin, Shape, Texts


class CatalogueParameter(Shape):
    """One number that an indicator takes."""

    name: str
    default: float
    minimum: float
    maximum: float
    whole: bool


class CatalogueEntry(Shape):
    """One indicator; `warm_up_bars` with its defaults."""

    name: str
    title: str
    group: str
    usage: str
    inputs: list[str]
    parameters: list[CatalogueParameter]
    outputs: list[str]
    warm_up_bars: int
    formula: str
    source: str
    live: bool
    intraday_only: bool


class Catalogue(Shape):
    """Every indicator that there is."""

    count: int
    items: list[CatalogueEntry]


class NamedIndicators(Origin):
    """The last values of indicators as they were asked for, by output."""

    indicators: dict[str, dict[str, float | None]]


class IndicatorSeries(Origin):
    """The last bars' values, oldest first; `timestamps` are Unix seconds of the bars' opening."""

    timestamps: list[int]
    series: dict[str, dict[str, list[float | None]]]


class LiveBar(Shape):
    """The newest bar: under way, or closed."""

    opened_at: str
    closed: bool
    close: float


class LiveRsi(Shape):
    """RSI(14) now and at the bar before; `signal` overbought, oversold or neutral."""

    current: float | None
    previous: float | None
    signal: str | None


class LiveMacd(Shape):
    """MACD(12,26,9); `trend` bullish, bearish or neutral."""

    macd: float | None
    signal: float | None
    histogram: float | None
    trend: str | None


class LiveIndicators(Shape):
    """The common ones. `cross_signal`: whether SMA 50 crosses SMA 200 with the newest bar."""

    rsi: LiveRsi
    macd: LiveMacd
    sma: dict[str, float | None]
    cross_signal: str | None


class LiveData(Shape):
    """What a socket is told too; `timestamp` is the last tick's, the market's time."""

    symbol: str
    timestamp: str | None
    indicators: LiveIndicators


class LiveValues(Shape):
    """Live values of a symbol; of an indicator whose `ready` is false there are none yet."""

    type: str
    symbol: str
    interval: str
    data: LiveData
    values: dict[str, dict[str, float | None]]
    ready: dict[str, bool]
    bar: LiveBar | None
    source: str
    synthetic: bool


class ScreenRequest(Shape):
    """A condition over indicators, asked of symbols; of all known ones without a list."""

    expression: str = Field(max_length=2_000)
    symbols: Texts = []
    interval: Interval = "1d"
    as_of: Day | None = None
    limit: int = Field(1_000, ge=1, le=10_000)


class ScreenMatch(Shape):
    """A symbol that fulfils the condition, with the values of what it names."""

    symbol: str
    session: str
    values: dict[str, float | None]


class ScreenResult(Shape):
    """What fulfils a condition, in the order of the symbols."""

    timestamp: str
    source: str
    expression: str
    interval: str
    as_of: str | None
    screened_symbols: int
    matched_symbols: int
    matches: list[ScreenMatch]
    errors: dict[str, ErrorDetail]


class Ranked(Shape):
    """A symbol's place."""

    rank: int
    symbol: str
    session: str
    value: float


class RankingResult(Shape):
    """Symbols by a value, the highest first."""

    timestamp: str
    source: str
    by: str
    interval: str
    ranked_symbols: int
    items: list[Ranked]
    errors: dict[str, ErrorDetail]


class SignalRow(Shape):
    """A signal at the close of a bar; `triggered_at` is when that bar opened."""

    symbol: str
    signal_type: str
    direction: str
    timeframe: str
    triggered_at: str
    current_price: float
    indicator_value: float
    signal_strength: float
    volume: int


class SignalList(Shape):
    """Signals, newest first."""

    timestamp: str
    source: str
    timeframe: str
    total: int
    signals: list[SignalRow]
    errors: dict[str, ErrorDetail]


class KeptSignal(SignalRow):
    """A signal that is kept."""

    id: int
    created_at: str


class KeptSignals(Shape):
    """Signals that the jobs kept, newest first; `stale` while the store does not answer."""

    timestamp: str
    source: str
    stale: bool
    signals: list[KeptSignal]


class SignalPerformance(Shape):
    """How signals of a type did by a horizon; returns are percent, adjusted for direction.

    `profit_factor`: all gains over all losses, null without a loss.
    """

    signal_type: str
    horizon: str
    samples: int
    success_rate: float
    mean_return: float
    worst_return: float
    best_return: float
    profit_factor: float | None


class SignalPerformances(Shape):
    """How signals did; horizons without a sample are left out."""

    timestamp: str
    source: str
    stale: bool
    performance: list[SignalPerformance]


class SignalOutcome(Shape):
    """What became of a signal, by horizon; one without a bar near it is left out."""

    signal_id: int
    prices: dict[str, float]
    returns: dict[str, float]
    max_return: float | None
    max_drawdown: float | None
    is_complete: bool
    last_updated_at: str


class SentimentBody(Origin):
    """What the last bar's indicators add up to; null of fewer than 100 bars."""

    score: int | None
    ratio: float | None
    label: str | None
    components: dict[str, int]


class CorrelationResult(Shape):
    """Pearson's correlation of log returns, row by row; null where a price never moved."""

    timestamp: str
    source: str
    period: str
    interval: str
    bars: int
    symbols: list[str]
    matrix: list[list[float | None]]
