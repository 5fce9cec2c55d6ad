"""The optimisation rules whose code paths are built in."""

from __future__ import annotations

from collections.abc import Iterator

from actors.monitor.optimisation.rules import Rule

# Those that can differ from request to request, so that variants of A/B tests may bind them.
REQUEST_SCOPED = (
    "caching_technical_analysis",
    "caching_price_data",
    "async_api_endpoints",
    "background_heavy_tasks",
)


def _built_in() -> Iterator[Rule]:
    yield Rule(
        id="memory_optimization_basic",
        name="Basic memory optimisation",
        description=(
            "Frames are given smaller types by optimize_dataframe_memory, and the memory watch "
            "purges expired entries of caches. Off: frames keep their types, expired entries "
            "wait for their turn."
        ),
        optimization_type="memory_optimization",
        target_services=("all",),
        performance_threshold={
            "memory_usage_increase_percent": 10.0,
            "response_time_increase_percent": 15.0,
        },
    )
    yield Rule(
        id="caching_technical_analysis",
        name="Caching of technical analysis",
        description=(
            "Answers with indicators, signals and patterns are kept in memory near the client: "
            "in the edge cache and the near caches of that kind. Off: each is asked of the "
            "levels behind."
        ),
        optimization_type="caching",
        target_services=(
            "TechnicalIndicatorService",
            "SignalGeneratorService",
            "PatternAnalysisService",
        ),
        dependencies=("memory_optimization_basic",),
        performance_threshold={
            "cache_hit_rate_minimum": 70.0,
            "response_time_improvement_minimum": 20.0,
        },
    )
    yield Rule(
        id="caching_price_data",
        name="Caching of price data",
        description=(
            "Answers with prices, snapshots and records are kept in memory near the client: in "
            "the edge cache and the near caches of that kind. Off: each is asked of the levels "
            "behind."
        ),
        optimization_type="caching",
        target_services=("PriceMonitorService", "PriceSnapshotService", "PriceHighRecordService"),
        dependencies=("memory_optimization_basic",),
        performance_threshold={
            "cache_hit_rate_minimum": 80.0,
            "response_time_improvement_minimum": 30.0,
        },
    )
    yield Rule(
        id="async_api_endpoints",
        name="Shared and early answers",
        description=(
            "Answers are given at the edge before the application parses them, equal questions "
            "at the same time share one answer, and questions within 20 ms go up to the source "
            "together. Off: each request is answered by the application, by itself."
        ),
        optimization_type="async_processing",
        target_services=("technical_analysis_api", "price_data_api"),
        dependencies=("caching_technical_analysis", "caching_price_data"),
        performance_threshold={
            "concurrent_request_improvement": 50.0,
            "average_response_time_improvement": 25.0,
        },
    )
    yield Rule(
        id="background_heavy_tasks",
        name="Heavy work in the background",
        description=(
            "Requests that ask for it (Prefer: respond-async) are run by the task queue and "
            "answered 202. Off: they are answered when the work is done."
        ),
        optimization_type="background_tasks",
        target_services=(
            "DailyComprehensiveReportService",
            "HistoricalDataService",
            "BatchAnalysisService",
        ),
        dependencies=("async_api_endpoints",),
        performance_threshold={
            "api_response_time_improvement": 40.0,
            "system_load_reduction": 30.0,
        },
    )
    yield Rule(
        id="websocket_streaming",
        name="Streaming for slow readers",
        description=(
            "Slow sockets in latest mode get the latest values only, and batches take the place "
            "of single pushes. Off: no conflation; sockets stay open."
        ),
        optimization_type="websocket_streaming",
        target_services=("RealtimePriceStreamer", "WebSocketManager"),
        dependencies=("background_heavy_tasks",),
        performance_threshold={
            "streaming_latency_maximum": 100.0,
            "connection_stability_minimum": 95.0,
        },
    )


BUILT_IN: dict[str, Rule] = {rule.id: rule for rule in _built_in()}
