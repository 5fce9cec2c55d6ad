"""Memory and caches: what is held where, and how it is given back."""

from __future__ import annotations

import asyncio
import time
from statistics import fmean
from typing import Annotated, Any

from fastapi import Query, Request
from starlette.responses import Response

from actors.telemetry.client import MemoryBook, Sample
from infra.caches.catalogue import TECHNICAL_ANALYSIS
from infra.errors import BodyInvalid, CacheUnknown, ParameterUnknown
from infra.metrics import Families
from serve.rest.answers import fresh
from serve.rest.memory_schemas import (
    CacheChoice,
    CacheCleaned,
    CacheCleared,
    Diagnostics,
    MemoryAlerts,
    MemoryHealthShort,
    MemoryStatus,
    MonitoringStatus,
    NamedCacheStats,
    OptimisationHistory,
    Optimised,
    PerformanceHistory,
    TechnicalCacheStats,
)
from serve.rest.memory_view import cache_stats, overall_rate_pct, status_report
from serve.rest.routing import Router
from serve.rest.schemas import documented
from serve.rest.services import Services, ServicesDep

router = Router(tags=["memory"])  # under two prefixes
about = Router(tags=["memory"])

_FIGURES = ("before_memory_mb", "after_memory_mb", "memory_freed_mb", "estimate_mb",
            "expired_items_removed", "optimization_time_seconds")  # fmt: skip
_CACHES, _OURS = "finstage_cache_", "finstage_"


async def _known(services: Services) -> tuple[Sample, MemoryBook, Families]:
    sample, book, families = await asyncio.gather(
        services.telemetry.memory(),
        services.telemetry.memory_book(),
        services.telemetry.metrics(_OURS),
    )
    return sample, book, families


# -- what is --------------------------------------------------------------------------------


@router.get("/status", response_model=MemoryStatus, responses=documented(503))
async def read_memory_status(services: ServicesDep) -> Response:
    """All that is known of memory, of every process."""
    return fresh(status_report(*await _known(services)))


@router.get("/health", response_model=MemoryHealthShort, responses=documented(503))
async def read_memory_health(services: ServicesDep) -> Response:
    """How memory does, in a line."""
    report = status_report(*await _known(services))
    return fresh(
        {
            "status": report["memory_health"]["health_status"],
            "memory_usage_percent": report["system_memory"]["percent"],
            "available_memory_mb": report["system_memory"]["available_mb"],
            "cache_hit_rate": report["cache_health"]["average_hit_rate"],
            "recommendations_count": len(report["recommendations"]),
            "timestamp": report["timestamp"],
        }
    )


@router.get("/diagnostics", response_model=Diagnostics, responses=documented(503))
async def read_memory_diagnostics(services: ServicesDep) -> Response:
    """Everything at once: the report, six hours of samples, what was shed, what was wrong."""
    sample, book, families = await _known(services)
    report = status_report(sample, book, families)
    return fresh(
        {
            "comprehensive_report": report,
            "optimization_history": list(reversed(book.optimisations))[:10],
            "memory_alerts": list(reversed(book.alerts))[:20],
            "performance_history": [s.shown() for s in book.since(6.0, sample.at_s)],
            "cache_stats": report["cache_health"]["instance_details"],
            "system_info": {
                "monitoring_active": True,
                "performance_records": len(book.samples),
            },
            "timestamp": sample.at_s,
        }
    )


@router.get("/monitoring/status", response_model=MonitoringStatus, responses=documented(503))
async def read_memory_monitoring(services: ServicesDep) -> Response:
    """How the watch over memory does; it is part of the CacheActor, which has just answered."""
    report = status_report(*(known := await _known(services)))
    return fresh(
        {
            "timestamp": report["timestamp"],
            "monitoring_active": True,
            "performance_records": len(known[1].samples),
            "cache_instances": report["cache_health"]["cache_instances"],
            "system_status": report["memory_health"]["health_status"],
        }
    )


@router.get("/performance/history", response_model=PerformanceHistory, responses=documented(503))
async def read_memory_history(
    services: ServicesDep, hours: Annotated[int, Query(ge=1, le=168)] = 24
) -> Response:
    """Samples of the watch, one each five minutes; a day of them is kept, in memory."""
    book = await services.telemetry.memory_book()
    now_s = time.time()
    samples = book.since(hours, now_s)
    rates = [s.hit_rate_pct for s in samples if s.hit_rate_pct is not None]
    return fresh(
        {
            "timestamp": now_s,
            "period_hours": hours,
            "data_points": len(samples),
            "performance_data": [sample.shown() for sample in samples],
            "summary": {
                "avg_memory_percent": _mean([s.use.system_pct for s in samples]),
                "avg_cache_hit_rate": _mean(rates),
                "total_cached_items": samples[-1].cached_items if samples else 0,
            },
        }
    )


@router.get("/optimization/history", response_model=OptimisationHistory,
            responses=documented(503))  # fmt: skip
async def read_optimisation_history(
    services: ServicesDep, limit: Annotated[int, Query(ge=1, le=100)] = 10
) -> Response:
    """What was given back, the newest first."""
    book = await services.telemetry.memory_book()
    records = list(reversed(book.optimisations))[:limit]
    freed = [record["memory_freed_mb"] for record in records]
    return fresh(
        {
            "timestamp": time.time(),
            "record_count": len(records),
            "optimization_history": records,
            "summary": {
                "total_optimizations": len(records),
                "total_memory_freed_mb": round(sum(freed), 2),
                "avg_memory_freed_mb": round(fmean(freed), 2) if freed else 0.0,
            },
        }
    )


@router.get("/alerts", response_model=MemoryAlerts, responses=documented(503))
async def read_memory_alerts(
    services: ServicesDep, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> Response:
    """What was wrong with memory, the newest first; the last fifty are kept."""
    book = await services.telemetry.memory_book()
    alerts = list(reversed(book.alerts))[:limit]
    levels = [alert["level"] for alert in alerts]
    return fresh(
        {
            "timestamp": time.time(),
            "alert_count": len(alerts),
            "alerts": alerts,
            "summary": {
                "critical_alerts": levels.count("critical"),
                "warning_alerts": levels.count("warning"),
            },
        }
    )


def _mean(values: list[float]) -> float | None:
    return round(fmean(values), 2) if values else None


# -- caches ---------------------------------------------------------------------------------


@router.get("/cache/stats", response_model=dict[str, NamedCacheStats], responses=documented(503))
async def read_cache_stats(services: ServicesDep) -> Response:
    """Every cache by name, summed over processes, at most two seconds old."""
    return fresh(cache_stats(await services.telemetry.metrics(_CACHES)))


@about.get("/api/v2/technical-analysis/cache/stats", response_model=TechnicalCacheStats,
           responses=documented(503))  # fmt: skip
async def read_technical_cache_stats(services: ServicesDep) -> Response:
    """The cache of technical analyses."""
    stats = cache_stats(await services.telemetry.metrics(_CACHES))
    return fresh(
        {
            "cache_name": TECHNICAL_ANALYSIS,
            "statistics": stats[TECHNICAL_ANALYSIS],
            "timestamp": time.time(),
        }
    )


@router.post("/cache/cleanup", response_model=CacheCleaned, responses=documented(503))
async def clean_caches(services: ServicesDep) -> Response:
    """Drop what is expired, in every process; takes two seconds."""
    results = await services.telemetry.order("purge")
    counts = _summed(results, "purged")
    return fresh(
        {
            "timestamp": time.time(),
            "total_expired_items": sum(counts.values()),
            "cache_details": counts,
            "success": None not in results.values(),
        }
    )


@router.post("/cache/clear", response_model=CacheCleared, responses=documented(404, 503))
async def clear_caches(
    request: Request,
    services: ServicesDep,
    body: CacheChoice | None = None,
    cache_name: Annotated[
        str | None, Query(max_length=64, description="One cache; all without it.")
    ] = None,
) -> Response:
    """Drop all entries and counts of one cache, or of all, in every process; takes two seconds.

    The name comes in the query or in the body. Any other parameter is refused: all caches would
    be cleared where one is meant.
    """
    for name in request.query_params:
        if name != "cache_name":
            raise ParameterUnknown(("query", name[:40]), "cache_name", ["cache_name"])
    if body is not None and body.cache_name is not None:
        if cache_name not in (None, body.cache_name):
            raise BodyInvalid(("body", "cache_name"), "the query names another cache")
        cache_name = body.cache_name
    known = cache_stats(await services.telemetry.metrics(_CACHES))
    if cache_name is not None and cache_name not in known:
        raise CacheUnknown(cache_name, list(known))
    results = await services.telemetry.order("clear", cache_name)
    which = {"cleared_caches": "all"} if cache_name is None else {"cleared_cache": cache_name}
    return fresh(
        {
            "timestamp": time.time(),
            **which,
            "cache_count": len(known) if cache_name is None else 1,
            "cleared_items": _summed(results, "cleared"),
            "success": None not in results.values(),
        }
    )


def _summed(results: dict[str, dict[str, Any] | None], kind: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for result in results.values():
        for name, count in (result or {}).get(kind, {}).items():
            counts[name] = counts.get(name, 0) + count
    return counts


# -- giving back ----------------------------------------------------------------------------


@router.post("/optimize", response_model=Optimised, responses=documented(503))
async def optimise_memory(
    services: ServicesDep,
    aggressive: Annotated[
        bool, Query(description="Leave a tenth of the caches instead of half.")
    ] = False,
) -> Response:
    """Purge and cut the caches of every process, collect garbage, return memory to the system.

    Takes two seconds and more. The figures are what resident memory fell by, process by process.
    """
    began_s = time.perf_counter()
    results = await services.telemetry.order("shed", aggressive=aggressive)
    sample, _, families = await _known(services)
    took_s = round(time.perf_counter() - began_s, 3)
    done = [result for result in results.values() if result is not None]
    sums = {name: round(sum(r[name] for r in done), 2) for name in _FIGURES}
    before_mb, is_complete = sums["before_memory_mb"], len(done) == len(results)
    return fresh(
        {
            "timestamp": sample.at_s,
            "execution_time_seconds": took_s,
            "system_optimization": {
                "timestamp": sample.at_s,
                **{name: sums[name] for name in _FIGURES[:4]},
                "memory_reduction_percent": round(
                    100 * sums["memory_freed_mb"] / before_mb if before_mb else 0.0, 2
                ),
                "optimization_time_seconds": took_s,
                "optimizations_performed": [
                    {"process": process, **{n: (result or {}).get(n) for n in _FIGURES}}
                    for process, result in sorted(results.items())
                ],
                "success": is_complete,
            },
            "cache_cleanup": {"expired_items_removed": int(sums["expired_items_removed"])},
            "final_state": {
                "memory_usage_mb": round(sample.tree_bytes / 2**20, 2),
                "memory_percent": sample.use.system_pct,
                "cache_hit_rate": overall_rate_pct(families),
            },
            "success": is_complete,
        }
    )


# -- for Prometheus -------------------------------------------------------------------------


@about.get("/metrics/memory", response_class=Response, responses=documented(503))
async def read_memory_metrics(services: ServicesDep) -> Response:
    """Four lines of Prometheus text; `/metrics` has everything. No rate before the first read."""
    sample, families = await asyncio.gather(
        services.telemetry.memory(), services.telemetry.metrics(_CACHES)
    )
    rate = overall_rate_pct(families)
    lines = [
        f"memory_usage_percent {sample.use.system_pct}",
        f"memory_available_mb {sample.use.available_bytes / 2**20:.2f}",
        f"cached_items_total {sample.cached_items}",
    ]
    if rate is not None:
        lines.insert(2, f"cache_hit_rate {rate}")
    media_type = "text/plain; version=0.0.4; charset=utf-8"
    return Response("\n".join(lines) + "\n", media_type=media_type)
