"""`/api/database`: what queries and connections to the store cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Query
from starlette.responses import Response

from infra.clock import utc
from infra.db.index_advice import advice, table_infos
from infra.db.slow_queries import SlowQueryLog
from infra.db.watch import PoolStats, QueryStats, StoreReport
from serve.rest.answers import fresh, now_iso
from serve.rest.routing import Router
from serve.rest.schemas import documented
from serve.rest.services import Services, ServicesDep
from serve.rest.store_schemas import (
    DatabaseSummary,
    IndexAnalysis,
    IndexSql,
    MetricsReset,
    Patterns,
    PoolAdvice,
    PoolBody,
    QueryStatsBody,
    SlowQueries,
    SlowQueriesCleaned,
    SlowQueriesFlushed,
    Statistics,
)

router = Router(prefix="/api/database", tags=["database"])

_PATTERNS = 20
_MOST_READ = 10_000
_HIGH_UTILIZATION, _FULL_UTILIZATION = 0.8, 0.95
_LONG_WAIT_S = 1.0

Hours = Annotated[int, Query(ge=1, le=168, description="How far back.")]


@router.get("/query-stats", response_model=QueryStatsBody, responses=documented(503))
async def read_query_stats(
    services: ServicesDep, limit: Annotated[int, Query(ge=1, le=100)] = 50
) -> Response:
    """Each kind of query since the processes started: how often, how long, how many rows.

    Of this replica, the feed, the scheduler and its jobs; `processes` names them.
    """
    reports = await _reports(services)
    rows = merged(query for report in reports for query in report.queries)
    pool = _pool(reports)
    total = sum(row.execution_count for row in rows)
    slow = sum(row.slow_count for row in rows)
    total_s = sum(row.total_s for row in rows)
    slowest = sorted(rows, key=lambda row: -row.max_s)
    frequent = sorted(rows, key=lambda row: -row.execution_count)
    body = {
        "timestamp": now_iso(services),
        "processes": [report.process for report in reports],
        "query_statistics": [_stats_row(row) for row in frequent[:limit]],
        "performance_summary": {
            "summary": {
                "total_queries": total,
                "unique_query_patterns": len(rows),
                "slow_queries": slow,
                "slow_query_rate": slow / total * 100 if total else 0.0,
                "avg_query_time": total_s / total if total else 0.0,
                "active_connections": pool.checked_out,
                "total_connections": pool.open,
            },
            "slowest_queries": [_stats_row(row) for row in slowest[:5]],
            "most_frequent_queries": [_stats_row(row) for row in frequent[:5]],
        },
        "total_queries": total,
    }
    return fresh(body)


@router.get("/slow-queries", response_model=SlowQueries, responses=documented(503))
async def read_slow_queries(
    services: ServicesDep,
    hours: Hours = 24,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    min_duration: Annotated[float | None, Query(ge=0, description="Seconds.")] = None,
    operation_type: Annotated[str | None, Query(max_length=20)] = None,
    table_name: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """Queries over the threshold, of all processes, newest first."""
    since = utc(services.clock.time_s()) - timedelta(hours=hours)
    rows = await services.store.read(
        lambda unit: unit.slow_queries.since(
            since, limit, min_duration or 0.0, operation_type, table_name
        )
    )
    filters = {
        "min_duration": min_duration,
        "operation_type": operation_type,
        "table_name": table_name,
    }
    body = {
        "slow_queries": [_slow_row(row) for row in rows],
        "total_count": len(rows),
        "time_range_hours": hours,
        "threshold_seconds": services.settings.slow_query_s,
        "filters": filters,
    }
    return fresh(body)


@router.get("/slow-queries/statistics", response_model=Statistics, responses=documented(503))
async def read_slow_statistics(services: ServicesDep, hours: Hours = 24) -> Response:
    """Slow queries counted by operation, table and hour of the day (UTC)."""
    rows = await _slow(services, hours)
    seconds = [row.duration for row in rows]
    at_hour = Counter(row.execution_timestamp.hour for row in rows)
    statistics = {
        "total_count": len(rows),
        "avg_duration": sum(seconds) / len(seconds) if seconds else None,
        "max_duration": max(seconds, default=None),
        "min_duration": min(seconds, default=None),
        "by_operation": Counter(row.operation_type for row in rows),
        "by_table": Counter(t for row in rows for t in row.table_names.split(",") if t),
        "hourly_distribution": [at_hour[hour] for hour in range(24)],
    }
    return fresh({"statistics": statistics})


@router.get("/slow-queries/patterns", response_model=Patterns, responses=documented(503))
async def read_slow_patterns(services: ServicesDep, hours: Hours = 24) -> Response:
    """The kinds of slow queries that come most often, and that take longest."""
    kinds: dict[str, list[SlowQueryLog]] = {}
    for row in await _slow(services, hours):
        kinds.setdefault(row.query_hash, []).append(row)
    patterns = [_pattern(rows) for rows in kinds.values()]
    frequent = sorted(patterns, key=lambda p: -p["count"])[:_PATTERNS]
    slowest = sorted(patterns, key=lambda p: -p["max_duration"])[:_PATTERNS]
    found = {"most_frequent_patterns": frequent, "slowest_patterns": slowest}
    return fresh({"patterns": found})


@router.post("/slow-queries/cleanup", response_model=SlowQueriesCleaned, responses=documented(503))
async def clean_slow_queries(
    services: ServicesDep, days: Annotated[int, Query(ge=1, le=365)] = 30
) -> Response:
    """Delete slow queries older than so many days."""
    before = utc(services.clock.time_s()) - timedelta(days=days)
    count = await services.store.write(lambda unit: unit.slow_queries.purge(before))
    body = {
        "success": True,
        "deleted_count": count,
        "retention_days": days,
        "cleaned_at": now_iso(services),
    }
    return fresh(body)


@router.post("/slow-queries/flush", response_model=SlowQueriesFlushed, responses=documented(503))
async def flush_slow_queries(services: ServicesDep) -> Response:
    """Write the slow queries of this replica now; every process does so by itself in seconds."""
    await services.store.keep_slow_queries("api")
    return fresh({"success": True, "flushed_at": now_iso(services)})


@router.post("/connection-pool/optimize", response_model=PoolAdvice, responses=documented(503))
async def advise_pool(services: ServicesDep) -> Response:
    """What to do about connections; nothing is changed."""
    pool = _pool(_lasting(await _reports(services)))
    body = {
        "timestamp": now_iso(services),
        "changed": False,
        "recommendations": _pool_advice(pool),
    }
    return fresh(body)


@router.get("/performance-summary", response_model=DatabaseSummary, responses=documented(503))
async def read_summary(services: ServicesDep) -> Response:
    """The store in a word.

    CRITICAL: over 10 % of queries slow, or 95 % of connections in use; WARNING: over 2 %, or 80 %;
    GOOD: a query was slow or failed; else EXCELLENT.
    """
    reports = await _reports(services)
    rows = merged(query for report in reports for query in report.queries)
    pool = _pool(_lasting(reports))
    total = sum(row.execution_count for row in rows)
    failed = sum(row.failures for row in rows)
    slow = sum(row.slow_count for row in rows)
    rate = slow / total * 100 if total else 0.0
    used = pool.checked_out / pool.most if pool.most else 0.0
    body = {
        "timestamp": now_iso(services),
        "status": _word(rate, used, slow + failed),
        "total_queries": total,
        "failed_queries": failed,
        "slow_query_rate": rate,
        "avg_query_time": sum(row.total_s for row in rows) / total if total else 0.0,
        "pool_utilization": used,
        "recommendations": _pool_advice(pool),
    }
    return fresh(body)


@router.post("/maintenance/reset-metrics", response_model=MetricsReset, responses=documented(503))
async def reset_metrics(services: ServicesDep) -> Response:
    """Count queries from zero, in this replica, the feed and the scheduler."""
    services.store.watch.reset()
    names = ["api", await services.feed.reset_store_report()]
    names.append(await services.scheduler.reset_store_reports())
    return fresh({"success": True, "processes": names, "reset_at": now_iso(services)})


def _word(slow_rate_pct: float, used: float, troubles: int) -> str:
    if slow_rate_pct > 10 or used > _FULL_UTILIZATION:
        return "CRITICAL"
    if slow_rate_pct > 2 or used > _HIGH_UTILIZATION:
        return "WARNING"
    return "GOOD" if troubles else "EXCELLENT"


def _lasting(reports: Sequence[StoreReport]) -> list[StoreReport]:
    """Return the reports of processes that are still there; those of jobs are not."""
    return [report for report in reports if not report.process.startswith("jobs-")]


@router.get("/connection-pool", response_model=PoolBody, responses=documented(503))
async def read_pool(services: ServicesDep) -> Response:
    """Connections of this replica, the feed and the scheduler, and what to do about them."""
    reports = _lasting(await _reports(services))
    pool = _pool(reports)
    used = pool.checked_out / pool.most if pool.most else 0.0
    settings = services.settings
    body = {
        "timestamp": now_iso(services),
        "processes": [report.process for report in reports],
        "current_metrics": {
            "pool_size": pool.size,
            "checked_out": pool.checked_out,
            "overflow": max(0, pool.open - pool.size),
            "total_connections": pool.open,
            "utilization": used,
            "avg_checkout_time": pool.waited_s / pool.checkouts if pool.checkouts else 0.0,
            "max_checkout_time": pool.longest_wait_s,
        },
        "statistics": {
            "peak_checked_out": pool.peak_checked_out,
            "total_connects": pool.connects,
            "total_disconnects": pool.disconnects,
            "total_checkouts": pool.checkouts,
            "total_checkins": pool.checkins,
            "failed_connections": pool.failed,
        },
        "configuration": {
            "pool_size": settings.store_pool_size,
            "max_overflow": settings.store_pool_overflow,
            "pool_timeout": settings.store_pool_timeout_s,
            "pool_recycle": settings.store_pool_recycle_s,
        },
        "health_status": _pool_health(used),
        "recommendations": _pool_advice(pool),
    }
    return fresh(body)


@router.get("/indexes/analysis", response_model=IndexAnalysis, responses=documented(503))
async def read_indexes(services: ServicesDep, hours: Hours = 168) -> Response:
    """Indexes of all tables, and those that slow queries of the time would have used."""
    slow = await _slow(services, hours)
    tables = await services.store.read(table_infos)
    body = {
        "timestamp": now_iso(services),
        "tables": [asdict(table) for table in tables],
        "advice": [asdict(found) for found in advice(slow, tables)],
    }
    return fresh(body)


@router.get("/indexes/optimization-sql", response_model=IndexSql, responses=documented(503))
async def read_index_sql(
    services: ServicesDep, table_name: Annotated[str | None, Query(max_length=64)] = None
) -> Response:
    """Statements that would make the indexes advised; nothing is run."""
    slow = await _slow(services, 168)
    found = advice(slow, await services.store.read(table_infos))
    body = {
        "sql": [a.sql for a in found if table_name in (None, a.table)],
        "warning": "An index costs time at each write: run the query with EXPLAIN first.",
    }
    return fresh(body)


async def _slow(services: Services, hours: int) -> list[SlowQueryLog]:
    since = utc(services.clock.time_s()) - timedelta(hours=hours)
    return await services.store.read(lambda unit: unit.slow_queries.since(since, _MOST_READ))


async def _reports(services: Services) -> list[StoreReport]:
    own = services.store.report("api")
    return [own, await services.feed.store_report(), *await services.scheduler.store_reports()]


def merged(queries: Iterable[QueryStats]) -> list[QueryStats]:
    """Return one row for each kind of query, over all processes."""
    found: dict[str, QueryStats] = {}
    for query in queries:
        row = found.setdefault(
            query.query_hash,
            QueryStats(query.query_hash, query.query_template, query.operation, query.tables),
        )
        row.execution_count += query.execution_count
        row.failures += query.failures
        row.total_s += query.total_s
        row.min_s = min(row.min_s, query.min_s)
        row.max_s = max(row.max_s, query.max_s)
        row.last_at_s = max(row.last_at_s, query.last_at_s)
        row.slow_count += query.slow_count
        row.affected_rows += query.affected_rows
    return [row for row in found.values() if row.execution_count]


def _stats_row(row: QueryStats) -> dict[str, Any]:
    return {
        "query_hash": row.query_hash,
        "query_template": row.query_template,
        "execution_count": row.execution_count,
        "failures": row.failures,
        "total_duration": row.total_s,
        "avg_duration": row.total_s / row.execution_count,
        "min_duration": row.min_s,
        "max_duration": row.max_s,
        "last_execution": utc(row.last_at_s).isoformat(timespec="milliseconds"),
        "slow_query_count": row.slow_count,
        "affected_rows": row.affected_rows,
        "table_names": list(row.tables),
    }


def _slow_row(row: SlowQueryLog) -> dict[str, Any]:
    shown = asdict(row) | {
        "execution_timestamp": row.execution_timestamp.isoformat(timespec="milliseconds")
    }
    del shown["created_at"]
    return shown


def _pattern(rows: Sequence[SlowQueryLog]) -> dict[str, Any]:
    seconds = [row.duration for row in rows]
    return {
        "query_hash": rows[0].query_hash,
        "query_template": rows[0].query_template,
        "count": len(rows),
        "avg_duration": sum(seconds) / len(seconds),
        "max_duration": max(seconds),
    }


def _pool(reports: Sequence[StoreReport]) -> PoolStats:
    total = PoolStats()
    for pool in (report.pool for report in reports):
        for name in PoolStats.__slots__:
            if name != "longest_wait_s":
                setattr(total, name, getattr(total, name) + getattr(pool, name))
        total.longest_wait_s = max(total.longest_wait_s, pool.longest_wait_s)
    return total


def _pool_health(used: float) -> str:
    if used > _FULL_UTILIZATION:
        return "CRITICAL"
    return "WARNING" if used > _HIGH_UTILIZATION else "HEALTHY"


def _pool_advice(pool: PoolStats) -> list[str]:
    found = []
    if pool.most and pool.peak_checked_out >= pool.most:
        found.append("every connection was in use at once: raise FINSTAGE_STORE_POOL_OVERFLOW")
    if pool.longest_wait_s > _LONG_WAIT_S:
        found.append(f"a caller waited {pool.longest_wait_s:.1f} s for a connection")
    if pool.failed:
        found.append(f"{pool.failed} connections failed: see `finstage logs --level WARNING`")
    return found
