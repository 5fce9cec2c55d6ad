"""Metrics of this process, and how those of all processes become one page.

Each process counts with prometheus-client into `REGISTRY` and reports a snapshot every other
second to the CacheActor, which sums them. Counters and histograms are summed over processes;
gauges carry a `process` label, so that no sum of theirs is ever made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

logger = logging.getLogger(__name__)

REGISTRY = CollectorRegistry()
REPORT_EVERY_S = 2.0
_FORGET_AFTER_S = 15.0
_GONE_AFTER_S = 900.0  # a process that was busy for so long does not come back
_LAG_PROBE_S = 0.25

HTTP_REQUESTS = Counter(
    "finstage_http_requests",
    "Requests answered, by route template and status.",
    ["method", "route", "status"],
    registry=REGISTRY,
)
HTTP_SECONDS = Histogram(
    "finstage_http_request_duration_seconds",
    "Time from the first byte of a request to the last of its answer, in the replica.",
    ["route"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
    registry=REGISTRY,
)
ACTOR_CALLS = Counter(
    "finstage_actor_calls",
    "Calls that an actor answered, by result.",
    ["actor", "method", "result"],
    registry=REGISTRY,
)
ACTOR_SECONDS = Histogram(
    "finstage_actor_call_duration_seconds",
    "Time an actor spent on a call.",
    ["actor", "method"],
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1, 5),
    registry=REGISTRY,
)
SOCKETS = Gauge("finstage_websocket_connections", "Open sockets.", ["process"], registry=REGISTRY)
FRAMES = Counter("finstage_websocket_frames", "Frames sent to sockets.", registry=REGISTRY)
ENCODES = Counter(
    "finstage_websocket_encodes",
    "Frames made: one for each message and format that is wanted.",
    registry=REGISTRY,
)
ALERTS_GIVEN = Counter(
    "finstage_alerts", "Alerts by their type.", ["alert_type"], registry=REGISTRY
)
SLOW_SOCKETS = Counter(
    "finstage_websocket_slow", "Sockets closed because they read too slowly.", registry=REGISTRY
)
HUB_MESSAGES = Counter("finstage_hub_messages", "Messages that the hub took.", registry=REGISTRY)
HUB_HISTORY_BYTES = Gauge(
    "finstage_hub_history_bytes", "Bytes of history in the hub.", ["process"], registry=REGISTRY
)
HUB_UNREAD = Counter(
    "finstage_hub_unread",
    "Messages of the hub that a reader could not take, by kind.",
    ["kind"],
    registry=REGISTRY,
)
UPSTREAM_REQUESTS = Counter(
    "finstage_upstream_requests",
    "Requests sent upstream, by endpoint and result.",
    ["upstream", "endpoint", "result"],
    registry=REGISTRY,
)
UPSTREAM_REJECTED = Counter(
    "finstage_upstream_rejected",
    "Rows and messages of an upstream that made no sense, by kind.",
    ["upstream", "kind"],
    registry=REGISTRY,
)
UPSTREAM_RATE = Gauge(
    "finstage_upstream_requests_per_second",
    "Requests a second that the upstream is thought to allow.",
    ["upstream", "process"],
    registry=REGISTRY,
)
UPSTREAM_WAITING = Gauge(
    "finstage_upstream_waiting",
    "Requests that wait for their turn upstream.",
    ["upstream", "process"],
    registry=REGISTRY,
)
UPSTREAM_BREAKER = Gauge(
    "finstage_upstream_breaker",
    "Circuit breaker: 0 closed, 1 half open, 2 open.",
    ["upstream", "process"],
    registry=REGISTRY,
)
UPSTREAM_STREAMS = Counter(
    "finstage_upstream_streams",
    "Connections of the stream, by event (opened, lost).",
    ["upstream", "event"],
    registry=REGISTRY,
)
TASKS_ENDED = Counter(
    "finstage_tasks",
    "Tasks that ended, by name and state.",
    ["task", "state"],
    registry=REGISTRY,
)
TASK_SECONDS = Histogram(
    "finstage_task_duration_seconds",
    "Time that a try of a task took, by name.",
    ["task"],
    buckets=(0.001, 0.01, 0.1, 1, 10, 60, 300, 1_800),
    registry=REGISTRY,
)
TASKS_WAITING = Gauge(
    "finstage_tasks_unfinished",
    "Tasks that have not ended, by stage.",
    ["stage", "process"],
    registry=REGISTRY,
)
JOB_RUNS = Counter(
    "finstage_job_runs",
    "Runs of scheduled jobs, by outcome.",
    ["job", "outcome"],
    registry=REGISTRY,
)
JOB_SECONDS = Histogram(
    "finstage_job_duration_seconds",
    "Time from the start of a scheduled job to its end.",
    ["job"],
    buckets=(0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800),
    registry=REGISTRY,
)
TICKS = Counter("finstage_feed_ticks", "Ticks that the feed sent.", registry=REGISTRY)
LOOP_LAG = Gauge(
    "finstage_event_loop_lag_seconds",
    "How late the event loop woke up, the worst of the last report.",
    ["process"],
    registry=REGISTRY,
)
RESIDENT_BYTES = Gauge(
    "finstage_process_resident_bytes", "Resident memory.", ["process"], registry=REGISTRY
)
SYSTEM_MEMORY = Gauge(
    "finstage_system_memory_percent",
    "Memory of the machine that all its processes use.",
    ["process"],
    registry=REGISTRY,
)
OBJECTS = Gauge(
    "finstage_process_objects",
    "Objects that Python's collector knows, every five minutes.",
    ["process", "generation"],
    registry=REGISTRY,
)
UNCOLLECTABLE = Gauge(
    "finstage_process_uncollectable_objects",
    "Objects that Python's collector could not free, every five minutes.",
    ["process"],
    registry=REGISTRY,
)
STAGE_SECONDS = Histogram(
    "finstage_stage_duration_seconds",
    "Time that values spend in a stage of their way: source, compute, hub, write.",
    ["stage"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
    registry=REGISTRY,
)
EXPERIMENT_REQUESTS = Counter(
    "finstage_experiment_requests",
    "Requests in an A/B test, by test and variant.",
    ["experiment", "variant"],
    registry=REGISTRY,
)
SERVICE_ALERTS = Gauge(
    "finstage_alerts_active",
    "Alerts about the service that are not over, by severity.",
    ["severity", "process"],
    registry=REGISTRY,
)
GRADE = Gauge(
    "finstage_performance_grade",
    "How the service does: 0 critical, 1 poor, 2 fair, 3 good, 4 excellent.",
    ["process"],
    registry=REGISTRY,
)
RULE_ENABLED = Gauge(
    "finstage_optimisation_enabled",
    "Whether an optimisation rule is on.",
    ["rule", "process"],
    registry=REGISTRY,
)
NOTIFICATIONS = Counter(
    "finstage_notifications",
    "Tries to tell somebody outside, by channel and outcome (sent, again, refused).",
    ["channel", "outcome"],
    registry=REGISTRY,
)
HAPROXIES = Gauge(
    "finstage_haproxy_processes",
    "HAProxy processes of this machine.",
    ["process"],
    registry=REGISTRY,
)
MACHINE_CPU = Gauge(
    "finstage_machine_cpu_percent",
    "CPU of the machine, all cores together.",
    ["process"],
    registry=REGISTRY,
)
MACHINE_DISK = Gauge(
    "finstage_machine_disk_percent",
    "How full the disk of the data directory is.",
    ["process"],
    registry=REGISTRY,
)
APP_INFO = Gauge(
    "finstage_app_info",
    "1; which service this is.",
    ["version", "source", "python_version", "process"],
    registry=REGISTRY,
)
DB_CONNECTIONS = Gauge(
    "finstage_db_pool_connections",
    "Connections of a process to the database, by state (in_use, idle).",
    ["state", "process"],
    registry=REGISTRY,
)
CPU_SECONDS = Gauge(
    "finstage_process_cpu_seconds", "CPU time used.", ["process"], registry=REGISTRY
)

Sample = tuple[str, tuple[tuple[str, str], ...], float]
Families = dict[str, tuple[str, str, list[Sample]]]


@dataclass(frozen=True, slots=True)
class ProcessReport:
    """What one process counted so far; `process` is its role and pid, `feed-1234`."""

    process: str
    families: Families
    directives: str = ""  # the number of those that it follows


def snapshot() -> Families:
    """Return all samples of this process's registry, in plain types that pickle."""
    return {
        family.name: (
            family.type,
            family.documentation,
            [
                (s.name, tuple(sorted(s.labels.items())), s.value)
                for s in family.samples
                if not s.name.endswith("_created")
            ],
        )
        for family in REGISTRY.collect()
    }


class MetricsTable:
    """The last report of every process, summed; counters of ended processes are kept."""

    def __init__(self) -> None:
        self._reports: dict[str, tuple[float, Families]] = {}
        self._silent: dict[str, tuple[float, Families]] = {}  # that may come back
        self._ended: Families = {}

    def put(self, report: ProcessReport, now_s: float) -> None:
        """Take a report; of processes that fell silent the counters stay."""
        self._silent.pop(report.process, None)
        self._reports[report.process] = (now_s, report.families)
        for process in _older(self._reports, now_s - _FORGET_AFTER_S):
            at_s, families = self._reports.pop(process)
            kept = {n: f for n, f in families.items() if f[0] != "gauge"}
            self._silent[process] = at_s, kept
        for process in _older(self._silent, now_s - _GONE_AFTER_S):
            self._ended = _merged([self._ended, self._silent.pop(process)[1]])

    @property
    def processes(self) -> tuple[str, ...]:
        """Return the processes that report."""
        return tuple(sorted(self._reports))

    def families(self, prefix: str = "") -> Families:
        """Return the samples of all processes together, of metrics whose names begin so."""
        told = (*self._silent.values(), *self._reports.values())
        parts = [self._ended, *(families for _, families in told)]
        return _merged(
            {n: f for n, f in families.items() if n.startswith(prefix)} for families in parts
        )

    def gauge(self, process: str, name: str) -> float | None:
        """Return the value of a gauge that a process has one of, None if it does not tell."""
        report = self._reports.get(process)
        family = report[1].get(name) if report is not None else None
        return family[2][0][2] if family is not None and family[2] else None

    def render(self) -> bytes:
        """Return the Prometheus text of all processes together."""
        registry = CollectorRegistry()
        registry.register(_Families(self.families()))
        return generate_latest(registry)


class _Families(Collector):
    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for name, (kind, text, samples) in sorted(self._families.items()):
            metric = Metric(name, text, kind)
            for sample, labels, value in samples:
                metric.add_sample(sample, dict(labels), value)
            yield metric


def _older(reports: dict[str, tuple[float, Families]], than_s: float) -> list[str]:
    return [process for process, (at_s, _) in reports.items() if at_s < than_s]


def _merged(parts: Iterable[Families]) -> Families:
    sums: dict[str, tuple[str, str, dict[tuple[str, tuple[tuple[str, str], ...]], float]]] = {}
    for families in parts:
        for name, (kind, text, samples) in families.items():
            into = sums.setdefault(name, (kind, text, {}))[2]
            for sample, labels, value in samples:
                into[sample, labels] = into.get((sample, labels), 0.0) + value
    return {
        name: (kind, text, [(s, labels, v) for (s, labels), v in values.items()])
        for name, (kind, text, values) in sums.items()
    }


def samples_of(families: Families, name: str) -> Iterator[tuple[dict[str, str], float]]:
    """Return the labels and values of a metric, nothing where there is none of the name."""
    for _, labels, value in rows_of(families, name):
        yield dict(labels), value


def rows_of(families: Families, name: str) -> Sequence[Sample]:
    """Return the same with the names of samples, as a histogram has several."""
    return families.get(name, ("", "", []))[2]


async def watch_process(process: str) -> None:
    """Keep the gauges of this process true: loop lag, resident memory, CPU time. Never returns."""
    own = psutil.Process()
    loop = asyncio.get_running_loop()
    while True:
        worst_s = 0.0
        for _ in range(int(REPORT_EVERY_S / _LAG_PROBE_S)):
            due_s = loop.time() + _LAG_PROBE_S
            await asyncio.sleep(_LAG_PROBE_S)
            worst_s = max(worst_s, loop.time() - due_s)
        with own.oneshot():
            cpu = own.cpu_times()
            RESIDENT_BYTES.labels(process).set(own.memory_info().rss)
        SYSTEM_MEMORY.labels(process).set(psutil.virtual_memory().percent)
        LOOP_LAG.labels(process).set(worst_s)
        CPU_SECONDS.labels(process).set(cpu.user + cpu.system)
