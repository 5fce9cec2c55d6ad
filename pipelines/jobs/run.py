"""One run of a job, in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import NamedTuple

from actors.alerts.client import AlertClient
from actors.feed.client import FeedClient
from actors.indicators.client import IndicatorClient
from actors.telemetry.client import TelemetryClient
from infra.clock import SystemClock
from infra.context import bound_request_id
from infra.db.store import open_store
from infra.db.watch import StoreReport
from infra.errors import FinstageError, StoreError
from infra.logs import setup_logs
from infra.metrics import ProcessReport, snapshot
from infra.settings import Settings
from infra.sources.facts import source_facts
from infra.universe import load_universe
from pipelines.jobs.base import JobContext
from pipelines.jobs.registry import all_jobs
from pipelines.jobs.spec import Outcome
from pipelines.queue.client import TaskClient

logger = logging.getLogger(__name__)


class Ended(NamedTuple):
    """How a run ended, one sentence about it, and what its queries cost."""

    outcome: Outcome
    message: str
    report: StoreReport


def run_job(settings: Settings, name: str, run_id: str) -> Ended:
    """Run a job to its end; what it raises becomes its outcome."""
    setup_logs(settings.log_dir, "jobs", settings.log_level)
    with bound_request_id(run_id[:16]):
        return asyncio.run(_run(settings, name))


async def _run(settings: Settings, name: str) -> Ended:
    clock = SystemClock()
    store = open_store(settings, clock)
    context = JobContext(
        settings=settings,
        clock=clock,
        source=source_facts(settings),
        universe=load_universe(),
        store=store,
        feed=FeedClient(settings.actor_wait_s),
        indicators=IndicatorClient(settings.actor_wait_s),
        alerts=AlertClient(settings.actor_wait_s),
        tasks=TaskClient(settings.actor_wait_s),
    )
    outcome: Outcome = "failed"
    try:
        message = await all_jobs()[name].run(context)
        outcome = "ok"
        logger.info("job.done", extra={"job": name, "told": message})
    except FinstageError as error:
        message = error.message
        logger.warning("job.failed", extra={"job": name, "reason": message})
    except Exception as error:
        message = f"a bug: {type(error).__name__}: {error}"
        logger.exception("job.broken", extra={"job": name})
    process = f"jobs-{os.getpid()}"
    report = store.report(process)
    with contextlib.suppress(StoreError):
        await store.keep_slow_queries(process)
    await store.close()
    await _report_metrics(process)
    return Ended(outcome, message, report)


async def _report_metrics(process: str) -> None:
    try:
        await TelemetryClient(1.0).report_metrics(ProcessReport(process, snapshot()))
    except FinstageError as error:
        logger.info("metrics.unsent", extra={"reason": error.code})
