"""The shapes of answers that come from the store and the scheduler."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from serve.rest.schemas import Shape, SymbolFailure, Texts


class Job(Shape):
    """A scheduled job; times are ISO in UTC, null where there is none."""

    name: str
    title: str
    schedule: str
    paused: bool
    running: bool
    run_id: str | None
    next_run_at: str | None
    last_run_at: str | None
    last_finished_at: str | None
    last_duration_seconds: float | None
    last_outcome: str | None
    last_message: str
    runs: int
    failures: int
    skipped: int
    timeout_seconds: float
    misfire_policy: str


class Jobs(Shape):
    """All jobs."""

    timestamp: str
    jobs: list[Job]


class JobStarted(Shape):
    """A job that was started."""

    name: str
    run_id: str
    started_at: str


class JobPaused(Shape):
    """A job that rests, or rests no longer."""

    name: str
    paused: bool


class Change(Shape):
    """A price against a base."""

    amount: float
    percent: float


class PriceSummary(Shape):
    """A price against what is kept of its symbol."""

    symbol: str
    current_price: float
    prev_close: float | None
    all_time_high: float | None
    prev_high: float | None
    prev_low: float | None
    change_from_close: Change | None
    change_from_high: Change | None
    timestamp: str


class SnapshotSummary(Shape):
    """The last whole session of a symbol; the date is the exchange's."""

    symbol: str
    latest_close: float | None
    latest_snapshot_date: str | None
    previous_high: float | None
    previous_low: float | None
    has_complete_data: bool


class HighRecordSummary(Shape):
    """A symbol's all-time high as it is kept."""

    symbol: str
    has_record: bool
    price: float | None
    recorded_at: str | None
    source: str | None
    days_since_high: int | None


class PriceDetails(Shape):
    """All that is kept of a symbol's prices."""

    price_summary: PriceSummary
    snapshot_summary: SnapshotSummary
    high_record_summary: HighRecordSummary


class CurrentPrice(Shape):
    """One symbol's price; `details` only where they were asked for."""

    symbol: str
    current_price: float
    timestamp: str
    source: str
    stale: bool
    details: PriceDetails | None = None


class CurrentPrices(Shape):
    """Prices of many symbols; one that failed has its error."""

    total_symbols: int
    successful_count: int
    results: dict[str, CurrentPrice | SymbolFailure]
    timestamp: str


class CurrentPricesRequest(Shape):
    """Symbols to price. `batch_size` is taken and changes nothing: all are asked for at once."""

    symbols: Texts
    batch_size: int = Field(10, ge=1, le=100)


class SnapshotSummaries(Shape):
    """Snapshots of many symbols; `stale` while the store does not answer."""

    timestamp: str
    source: str
    stale: bool
    total_symbols: int
    with_complete_data: int
    snapshots: list[SnapshotSummary]


class HighRecordSummaries(Shape):
    """All-time highs of many symbols; `stale` while the store does not answer."""

    timestamp: str
    source: str
    stale: bool
    total_symbols: int
    with_records: int
    high_records: list[HighRecordSummary]


class StoredInterval(Shape):
    """What is held at one interval from one source; times are ISO in UTC."""

    interval: str
    source: str
    first: str
    last: str
    bars: int
    revised: int
    last_revision: int


class Gaps(Shape):
    """Sessions of the exchange without a bar; the first fifty by date."""

    sessions: int
    dates: list[str]


class ServedBars(Shape):
    """The daily bars that are served; times are ISO in UTC, null where there are none."""

    source: str
    first: str | None
    last: str | None
    bars: int
    stale: bool


class CoverageBody(Shape):
    """What the store holds of a symbol, and what is served; null while that cannot be had."""

    symbol: str
    timestamp: str
    stale: bool
    intervals: list[StoredInterval]
    gaps: dict[str, Gaps]
    served: ServedBars | None


class DeletedBars(Shape):
    """How many imported bars of an interval were deleted."""

    interval: str
    bars: int


class ImportDeleted(Shape):
    """What was imported of a symbol and is no longer there."""

    symbol: str
    timestamp: str
    deleted: list[DeletedBars]


class StoredNews(Shape):
    """One article that is kept; `sentiment` is -1 to 1, null unless English."""

    symbol: str
    title: str
    url: str
    publisher: str | None
    summary: str | None
    language: str | None
    sentiment: float | None
    published_at: str
    source: str


class StoredNewsList(Shape):
    """Articles that are kept, newest first."""

    timestamp: str
    stale: bool
    items: list[StoredNews]


class QueryStatsRow(Shape):
    """One kind of query, of all processes that were asked; durations are seconds."""

    query_hash: str
    query_template: str
    execution_count: int
    failures: int
    total_duration: float
    avg_duration: float
    min_duration: float
    max_duration: float
    last_execution: str | None
    slow_query_count: int
    affected_rows: int
    table_names: list[str]


class QuerySummary(Shape):
    """All queries together; the rate is percent, the time seconds."""

    total_queries: int
    unique_query_patterns: int
    slow_queries: int
    slow_query_rate: float
    avg_query_time: float
    active_connections: int
    total_connections: int


class QueryPerformance(Shape):
    """The summary, and the kinds that cost most."""

    summary: QuerySummary
    slowest_queries: list[QueryStatsRow]
    most_frequent_queries: list[QueryStatsRow]


class QueryStatsBody(Shape):
    """What queries cost since each process started."""

    timestamp: str
    processes: list[str]
    query_statistics: list[QueryStatsRow]
    performance_summary: QueryPerformance
    total_queries: int


class SlowQueryRow(Shape):
    """One slow query."""

    query_hash: str
    query_template: str
    duration: float
    affected_rows: int
    table_names: str
    operation_type: str
    process: str
    execution_timestamp: str


class SlowQueries(Shape):
    """Slow queries, newest first."""

    slow_queries: list[SlowQueryRow]
    total_count: int
    time_range_hours: int
    threshold_seconds: float
    filters: dict[str, Any]


class SlowQueryStatistics(Shape):
    """Slow queries counted; hours are UTC."""

    total_count: int
    avg_duration: float | None
    max_duration: float | None
    min_duration: float | None
    by_operation: dict[str, int]
    by_table: dict[str, int]
    hourly_distribution: list[int]


class SlowPattern(Shape):
    """One kind of slow query."""

    query_hash: str
    query_template: str
    count: int
    avg_duration: float
    max_duration: float


class SlowQueryPatterns(Shape):
    """The kinds of slow queries that come most often, and that take longest."""

    most_frequent_patterns: list[SlowPattern]
    slowest_patterns: list[SlowPattern]


class Statistics(Shape):
    """Slow queries counted, under a name of before."""

    statistics: SlowQueryStatistics


class Patterns(Shape):
    """Kinds of slow queries, under a name of before."""

    patterns: SlowQueryPatterns


class SlowQueriesCleaned(Shape):
    """What a clean-up removed."""

    success: bool
    deleted_count: int
    retention_days: int
    cleaned_at: str


class PoolMetrics(Shape):
    """Connections of all processes that were asked; waits are seconds."""

    pool_size: int
    checked_out: int
    overflow: int
    total_connections: int
    utilization: float
    avg_checkout_time: float
    max_checkout_time: float


class PoolStatistics(Shape):
    """What happened to connections since each process started."""

    peak_checked_out: int
    total_connects: int
    total_disconnects: int
    total_checkouts: int
    total_checkins: int
    failed_connections: int


class PoolBody(Shape):
    """The state of the connections to the store."""

    timestamp: str
    processes: list[str]
    current_metrics: PoolMetrics
    statistics: PoolStatistics
    configuration: dict[str, Any]
    health_status: str
    recommendations: list[str]


class SlowQueriesFlushed(Shape):
    """Slow queries seen by this replica are in the store."""

    success: bool
    flushed_at: str


class PoolAdvice(Shape):
    """What to do about connections; nothing is changed, as pools are settings."""

    timestamp: str
    changed: bool
    recommendations: list[str]


class DatabaseSummary(Shape):
    """The store's state in a word, and the figures behind it; rates are percent, times seconds."""

    timestamp: str
    status: str
    total_queries: int
    failed_queries: int
    slow_query_rate: float
    avg_query_time: float
    pool_utilization: float
    recommendations: list[str]


class MetricsReset(Shape):
    """Counts of queries start from zero."""

    success: bool
    processes: list[str]
    reset_at: str


class IndexRow(Shape):
    """An index; the primary key is called PRIMARY."""

    name: str
    columns: list[str]
    unique: bool


class TableIndexes(Shape):
    """A table with its indexes."""

    table: str
    rows: int
    indexes: list[IndexRow]


class IndexAdvice(Shape):
    """An index that slow queries would have used."""

    table: str
    columns: list[str]
    reason: str
    query_hash: str


class IndexAnalysis(Shape):
    """What the tables have, and what slow queries lack."""

    timestamp: str
    tables: list[TableIndexes]
    advice: list[IndexAdvice]


class IndexSql(Shape):
    """Statements that would make the indexes advised."""

    sql: list[str]
    warning: str
