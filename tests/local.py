"""The service in one process: the same cores and routes, without Ray and without sockets.

Each class here answers what its client in `actors/` answers, straight from the core.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import orjson
from fastapi import FastAPI

from actors.alerts.client import AlertClient
from actors.alerts.firing import give, of_price
from actors.alerts.price_alerts import PriceAlerts
from actors.alerts.rule_changes import RuleChanges
from actors.alerts.rules import reference_of
from actors.alerts.user_rules import UserRule, UserRules
from actors.feed.client import FeedClient
from actors.feed.core import FeedCore, MonitoredSet
from actors.feed.known import KnownSymbols, Listing
from actors.feed.pins import Pins
from actors.hub.client import HubClient
from actors.hub.core import HubCore
from actors.indicators.bar_store import BarStore
from actors.indicators.client import IndicatorClient
from actors.indicators.core import IndicatorCore
from actors.indicators.correlation import Correlation, correlation
from actors.indicators.expressions import LiveCondition
from actors.indicators.functions import functions
from actors.indicators.language import (
    parse_calls,
    parse_condition,
    parse_live_condition,
    parse_value,
)
from actors.indicators.screen import Screening
from actors.indicators.streaming.indicators import LiveIndicators
from actors.indicators.streaming.leases import LIVE_INTERVALS, Subject, live_sets
from actors.indicators.streaming.worker import Links, LiveWorker
from actors.indicators.tables import IndicatorTable, LiveWant, Match, Sentiment, Signal
from actors.monitor.client import MonitorClient
from actors.reporting import Order, obey
from actors.telemetry.client import MemoryBook, Sample, TelemetryClient
from infra.bars import Bars, BarSeries, History, Quote
from infra.caches.counted import count_caches
from infra.caches.hit_rate import Reads
from infra.clock import FakeClock
from infra.db.alert_rules import StoredRule
from infra.db.store import QUESTION, Limit, Store, Work
from infra.db.unit import Unit
from infra.db.url import store_url
from infra.db.watch import PoolStats, QueryStats, QueryWatch, StoreReport
from infra.errors import (
    FinstageError,
    JobRunning,
    StoreUnavailable,
    SymbolUnknown,
)
from infra.memory.usage import memory_use
from infra.messages import DATA, Message
from infra.metrics import Families, MetricsTable, ProcessReport, snapshot
from infra.periods import check_interval
from infra.settings import Settings
from infra.sources.base import Lane
from infra.sources.facts import source_facts
from infra.sources.replay import Record, ReplaySource, load_records
from infra.sources.runs import Run
from infra.sources.trouble import Trouble
from infra.symbols import nearest
from infra.universe import load_universe
from pipelines.jobs.registry import all_jobs
from pipelines.scheduler.client import SchedulerClient, StoreState
from pipelines.scheduler.core import Schedule
from serve.edge.gate import Gate
from serve.edge.last_good import LastGood
from serve.edge.near import NearCache
from serve.rest.app import create_api
from serve.rest.services import Services
from tests.local_monitor import LocalMonitor
from tests.settings import made_settings
from tests.task_queues import LocalTasks

STARTED_AT_S = 1_700_000_000.0


async def _at_once() -> None:
    return


T = TypeVar("T")


class LocalFeed:
    """Answers as FeedClient."""

    def __init__(self, source: ReplaySource, settings: Settings) -> None:
        self.source = source
        self.store = LocalStore(settings.data_dir)
        self.pins = Pins(settings.data_dir / "pins.json", settings.max_universe)
        file = settings.data_dir / "monitored.json"
        self._monitored = MonitoredSet(file, source.symbols(), settings.max_universe)
        self.known = KnownSymbols(source, self._monitored)

    async def ping(self) -> int:
        return 1

    async def symbols(self) -> tuple[str, ...]:
        return self.known.symbols()

    async def listing(self) -> Listing:
        return self.known.listing()

    async def trouble(self, wait_s: float = 1.0) -> Trouble | None:
        return self.source.trouble()

    async def histories(
        self, symbols: Sequence[str] = (), interval: str = "1d", lane: Lane = Lane.INTERACTIVE
    ) -> dict[str, History | FinstageError]:
        return {s: await self.source.history(s, interval) for s in symbols}

    async def quotes(self, symbols: Sequence[str]) -> dict[str, Quote | FinstageError]:
        return await self.source.quotes(symbols)

    async def sources(self, symbols: Sequence[str], interval: str = "1d") -> dict[str, str]:
        return {symbol: self.source.name for symbol in symbols}

    async def look_for_imports(self) -> None:
        return

    async def reset_store_report(self) -> str:
        return "feed"

    async def store_report(self) -> StoreReport:
        return self.store.report("feed")

    async def actions(self, symbol: str) -> Any:
        return await self.source.actions(symbol)

    async def info(self, symbol: str) -> Any:
        return await self.source.info(symbol)

    async def news(self, symbol: str, count: int) -> Any:
        return await self.source.news(symbol, count)

    async def fundamentals(self, symbol: str) -> Any:
        return await self.source.fundamentals(symbol)

    async def search(self, text: str, count: int) -> Any:
        return await self.source.search(text, count)

    async def monitored(self) -> tuple[str, ...]:
        return self._monitored.symbols

    async def monitor(self, symbols: Sequence[str]) -> tuple[str, ...]:
        for symbol in symbols:
            if not await self.source.knows(symbol):
                raise SymbolUnknown(symbol, nearest(symbol, self.source.symbols()))
        self._monitored.add(symbols)
        return self._monitored.symbols

    async def pin(self, symbols: Sequence[str], is_live: bool = False) -> tuple[str, ...]:
        for symbol in symbols:
            if not await self.source.knows(symbol):
                raise SymbolUnknown(symbol, nearest(symbol, self.source.symbols()))
        self.pins.add(symbols, is_live)
        return self.pins.symbols

    async def unmonitor(self, symbols: Sequence[str]) -> tuple[str, ...]:
        self._monitored.remove(symbols)
        return self._monitored.symbols


class LocalIndicators:
    """Answers as IndicatorClient; `calls` counts them by method."""

    def __init__(self, source: ReplaySource) -> None:
        self.book = BarStore()
        self.core = IndicatorCore(self.book)
        self.calls: list[str] = []
        for symbol in source.symbols():
            self.book.put(source.history_now(symbol))
        self.published: list[Message] = []
        desk = LiveIndicators(self.core.true_bars, 64)
        links = Links(self._load, self._open_bar, self._publish, self._follow, lambda _: "replay")
        facts = source_facts(made_settings())
        self.live_worker = LiveWorker(desk, links, facts, FakeClock(STARTED_AT_S), 60.0, _at_once)

    async def _load(self, symbols: Sequence[str], interval: str) -> dict[str, FinstageError]:
        return self.core.unknown(symbols, interval)

    async def _follow(self, symbols: Sequence[str]) -> dict[str, FinstageError]:
        return {}

    async def _publish(self, messages: Sequence[Message]) -> None:
        self.published += messages

    def _open_bar(self, subject: Subject) -> Bars:
        return self.book.open_bar(*subject)

    async def ping(self) -> int:
        return 2

    async def symbols(self) -> tuple[str, ...]:
        return tuple(self.book.symbols)

    async def indicators(self, symbol: str, *rest: Any) -> dict[str, Any]:
        self.calls.append("indicators")
        return self.core.indicators(symbol, *rest)

    async def indicators_json(
        self, symbol: str, period: str, interval: str, names: Sequence[str], method: str
    ) -> tuple[str, bytes, float | None]:
        self.calls.append("indicators")
        answer = self.core.indicators(symbol, period, interval, names, method, False)
        return answer["data_version"], orjson.dumps(answer), None

    async def comprehensive(
        self,
        symbols: Sequence[str],
        period: str = "1mo",
        interval: str = "1d",
        method: str = "standard",
        open_bar: bool = False,
    ) -> dict[str, dict[str, Any] | FinstageError]:
        self.calls.append("comprehensive")
        return self.core.comprehensive(symbols, period, interval, method, open_bar)

    async def history(
        self,
        symbol: str,
        period: str | None = "1mo",
        start: date | None = None,
        end: date | None = None,
        interval: str = "1d",
        adjusted: bool = True,
        open_bar: bool = False,
    ) -> BarSeries:
        self.calls.append("history")
        return self.core.history(symbol, period, start, end, interval, adjusted, open_bar)

    async def histories(
        self,
        symbols: Sequence[str],
        period: str = "1mo",
        interval: str = "1d",
        adjusted: bool = True,
    ) -> dict[str, BarSeries | FinstageError]:
        self.calls.append("histories")
        return self.core.histories(symbols, period, interval, adjusted)

    async def trend(self, symbol: str, period: str = "1mo", interval: str = "1d") -> Any:
        return self.core.trend(symbol, period, interval)

    async def references(
        self, symbols: Sequence[str], lane: Lane = Lane.INTERACTIVE
    ) -> dict[str, Any]:
        return self.core.references(symbols)

    async def compiling(self) -> bool:
        return False

    async def live_condition(self, text: str) -> LiveCondition:
        return parse_live_condition(text)

    async def want_live(self, wants: Sequence[LiveWant]) -> dict[LiveWant, FinstageError]:
        return await self.live_worker.want(wants)

    async def live(self, want: LiveWant) -> dict[str, Any]:
        for error in (await self.live_worker.want([want])).values():
            raise error
        return self.live_worker.values(want)

    async def catalogue(self) -> list[dict[str, Any]]:
        return [function.described() for function in functions().values()]

    async def table(
        self,
        symbol: str,
        indicators: str,
        period: str = "1mo",
        interval: str = "1d",
        last: int | None = None,
        open_bar: bool = False,
    ) -> IndicatorTable:
        self.calls.append("table")
        calls = parse_calls(indicators)
        return self.core.table(symbol, calls, period, interval, last, open_bar)

    async def screen(
        self,
        expression: str,
        symbols: Sequence[str] = (),
        interval: str = "1d",
        as_of: date | None = None,
    ) -> tuple[list[Match], dict[str, FinstageError]]:
        answered, errors = self._answered(parse_condition(expression), symbols, interval, as_of)
        return [match for part in answered for match in part.matches()], errors

    async def ranking(
        self,
        value: str,
        symbols: Sequence[str] = (),
        interval: str = "1d",
        as_of: date | None = None,
    ) -> tuple[list[Match], dict[str, FinstageError]]:
        answered, errors = self._answered(parse_value(value), symbols, interval, as_of)
        found = [match for part in answered for match in part.ranked()]
        return sorted(found, key=lambda match: -(match.values["value"] or 0.0)), errors

    async def correlation(
        self, symbols: Sequence[str], period: str = "1y", interval: str = "1d"
    ) -> Correlation:
        return correlation({s: self.core.closes(s, period, interval) for s in symbols})

    async def signals(
        self, symbols: Sequence[str] = (), interval: str = "1d", last: int = 1
    ) -> dict[str, list[Signal] | FinstageError]:
        answers: dict[str, list[Signal] | FinstageError] = {}
        for symbol in symbols or sorted(self.book.symbols):
            try:
                answers[symbol] = self.core.signals(symbol, interval, last)
            except FinstageError as error:
                answers[symbol] = error
        return answers

    async def sentiment(
        self, symbol: str, interval: str = "1d"
    ) -> tuple[dict[str, Any], Sentiment | None]:
        return self.core.sentiment(symbol, interval)

    def _answered(
        self, node: Any, symbols: Sequence[str], interval: str, as_of: date | None
    ) -> tuple[list[Screening], dict[str, FinstageError]]:
        asked = tuple(symbols) or tuple(sorted(self.book.symbols))
        errors = self.core.unknown(asked, interval)
        asked = tuple(symbol for symbol in asked if symbol not in errors)
        parts = list(self.core.screenings(node, asked, interval, as_of))
        for part in parts:
            for _ in part.steps():
                pass
        return parts, errors


class LocalTelemetry:
    """Answers what the routes ask of TelemetryClient."""

    async def ping(self) -> int:
        return 3

    def __init__(self) -> None:
        self.book = MemoryBook(30.0)
        count_caches("local")

    def _table(self) -> MetricsTable:
        table = MetricsTable()
        table.put(ProcessReport("local", snapshot()), 0.0)
        return table

    async def metrics_text(self) -> bytes:
        return self._table().render()

    async def metrics(self, prefix: str) -> Families:
        return self._table().families(prefix)

    async def memory(self) -> Sample:
        use = memory_use()
        rss = use.rss_bytes
        return Sample(
            time.time(),
            use,
            {"local": rss},
            rss,
            1,
            0,
            2**28,
            3,
            4_096,
            Reads(150, 50),
            Reads(150, 50),
            0,
        )

    async def memory_book(self) -> MemoryBook:
        return self.book

    async def order(
        self, kind: Any, cache: str | None = None, aggressive: bool = False
    ) -> dict[str, dict[str, Any] | None]:
        result = obey(Order(1, kind, cache, aggressive))
        if kind == "shed":
            figures = {name: result[name] for name in ("memory_freed_mb", "estimate_mb")}
            self.book.optimisations.append(
                {"timestamp": time.time(), "reason": "asked", **figures,
                 "processes": {"local": result}}
            )  # fmt: skip
        return {"local": result, "gone-1": None} if kind == "clear" else {"local": result}


class LocalStore:
    """Answers as Store, on a file; tests come in many event loops, so it opens for each unit."""

    def __init__(self, folder: Path) -> None:
        self._url = store_url("", folder)
        self._watch = QueryWatch(FakeClock(), 1.0)
        self._is_migrated = False
        self.is_away = False

    async def read(self, work: Work[T], limit: Limit = QUESTION) -> T:
        return await self.write(work, limit=limit)

    async def write(self, work: Work[T], limit: Limit = QUESTION) -> T:
        if self.is_away:
            raise StoreUnavailable("the store does not answer: a test says so")
        store = Store(self._url)
        try:
            if not self._is_migrated:
                await store.migrate()
                self._is_migrated = True
            return await store.write(work, Limit(5 * limit.answer_s, 5 * limit.locks_s))
        finally:
            await store.close()

    @property
    def watch(self) -> QueryWatch:
        return self._watch

    async def keep_slow_queries(self, process: str) -> None:
        self._watch.take_slow()

    def report(self, process: str) -> StoreReport:
        kinds = [QueryStats("abc", "SELECT 1", "SELECT", ("bars",), 2, 0, 0.5, 0.2, 0.3, 1.0)]
        return StoreReport(process, kinds, PoolStats(5, 10, 1, 0, 1, 1, 0, 2, 2, 0, 0.1, 0.1))


class LocalAlerts:
    """Answers as AlertClient, from a store and the indicators."""

    def __init__(self, store: Any, indicators: LocalIndicators) -> None:
        self._store = store
        self._indicators = indicators
        self._price_alerts = PriceAlerts(
            load_universe().thresholds,
            5.0,
            300.0,
            lambda iso: datetime.fromisoformat(iso).timestamp(),
        )

        self.rules = UserRules()
        self._changes = RuleChanges(store, self.rules, indicators.live_condition, self._check)

    async def ping_once(self, wait_s: float = 1.0) -> int:
        return 6

    async def check(self, updates: Sequence[dict[str, Any]]) -> int:
        for symbol, answer in (
            await self._indicators.references([u["symbol"] for u in updates])
        ).items():
            self._price_alerts.hold(symbol, reference_of(answer))
        due = [
            one for update in updates for one in self._price_alerts.on_price(update, STARTED_AT_S)
        ]

        run = Run("replay")

        async def work(unit: Unit) -> int:
            found = [await give(unit, of_price(one, STARTED_AT_S), run) for one in due]
            return sum(isinstance(one, int) for one in found)

        given: int = await self._store.write(work)
        return given

    async def _check(self, rule: UserRule) -> None:
        if rule.condition.indicators:
            check_interval(rule.stored.interval, LIVE_INTERVALS)
            live_sets(rule.condition.indicators, rule.stored.interval)
        for answer in (await self._indicators.references(rule.stored.symbols)).values():
            if isinstance(answer, FinstageError):
                raise answer

    async def add_rule(self, rule: StoredRule, most: int) -> None:
        await self._changes.add(rule, most)

    async def change_rule(self, rule: StoredRule) -> None:
        await self._changes.change(rule)

    async def enable_rule(self, rule_id: str, enabled: bool, at: datetime) -> StoredRule:
        return await self._changes.enable(rule_id, enabled, at)

    async def remove_rule(self, rule_id: str) -> bool:
        return await self._changes.remove(rule_id)


class LocalScheduler:
    """Answers as SchedulerClient; its jobs start and never end."""

    def __init__(self, clock: FakeClock, store: LocalStore) -> None:
        self._clock = clock
        self._store = store
        specs = [job.spec for job in all_jobs().values()]
        self.schedule = Schedule(specs, clock.time_s())

    async def ping_once(self, wait_s: float = 1.0) -> int:
        return 5

    async def jobs(self) -> list[dict[str, Any]]:
        return self.schedule.rows()

    async def run_now(self, name: str) -> str:
        due = self.schedule.run_now(name, self._clock.time_s())
        if due is None:
            raise JobRunning(name)
        return due.run_id

    async def pause(self, name: str) -> None:
        self.schedule.pause(name)

    async def resume(self, name: str) -> None:
        self.schedule.resume(name, self._clock.time_s())

    async def store_state(self) -> StoreState:
        away = self._store.is_away
        return StoreState("away" if away else "", "a test says so" if away else "sqlite", 0.0)

    async def reset_store_reports(self) -> str:
        return "scheduler"

    async def store_reports(self) -> list[StoreReport]:
        return [self._store.report("scheduler")]


class LocalHub:
    """Answers what the routes ask of HubClient."""

    async def ping(self) -> int:
        return 4


class LocalService:
    """All of it wired together, on a clock that stands still until it is advanced."""

    def __init__(
        self, data_dir: Path, records: Mapping[str, Record] | None = None, **overrides: Any
    ) -> None:
        self.settings = made_settings(data_dir=data_dir, **overrides)
        self.clock = FakeClock(STARTED_AT_S)
        self.source = ReplaySource(records or load_records(), self.clock, STARTED_AT_S)
        self.feed = LocalFeed(self.source, self.settings)
        self.indicators = LocalIndicators(self.source)
        self.hub = HubCore("epoch-1", 2**20, 120.0, self.clock.monotonic_s)
        self.near = NearCache(
            self.settings.near_cache_bytes,
            self.settings.near_cache_entries,
            self.settings.near_cache_lease_s,
            self.clock.monotonic_s,
        )
        self.gate = Gate(self.settings)
        self.store = LocalStore(data_dir)
        self.scheduler = LocalScheduler(self.clock, self.store)
        self.feed.store = self.store
        self.tasks = LocalTasks(self.settings, cast(Store, self.store))
        self.monitor = LocalMonitor(self.settings, cast(Store, self.store), self.clock)
        self.services = Services(
            settings=self.settings,
            source=source_facts(self.settings),
            universe=load_universe(),
            clock=self.clock,
            near=self.near,
            feed=cast(FeedClient, self.feed),
            indicators=cast(IndicatorClient, self.indicators),
            telemetry=cast(TelemetryClient, LocalTelemetry()),
            hub=cast(HubClient, LocalHub()),
            alerts=cast(AlertClient, LocalAlerts(self.store, self.indicators)),
            scheduler=cast(SchedulerClient, self.scheduler),
            tasks=self.tasks,
            monitor=cast(MonitorClient, self.monitor),
            store=cast(Store, self.store),
            last_good=LastGood(self.clock),
        )
        self.feed_core = FeedCore(self.source.name)
        self.hub.publish(
            self.feed_core.messages(self.source.events_between(None, self.source.place()))
        )
        self.hub.publish(self.versions())
        self.near.on_snapshot(self.hub.snapshot())
        self.near.heard_s = self.clock.monotonic_s()

    @property
    def app(self) -> FastAPI:
        """A new application over the same services."""
        return create_api(self.services, self.gate, behind_serve=False)

    def versions(self) -> list[Message]:
        """What the indicators say when they hold every symbol's present version."""
        return [
            Message(
                DATA + s,
                b'{"type":"data_version","symbol":"%b","data_version":"%b"}'
                % (s.encode(), self.source.history_now(s).data_version.encode()),
            )
            for s in self.source.symbols()
        ]

    def play(self, seconds: float) -> None:
        """Advance the clock; feed, indicators and near cache hear of what happened."""
        position, place = self.hub.position, self.source.place()
        self.clock.advance(seconds)
        for symbol in self.source.symbols():
            self.indicators.book.put(self.source.history_now(symbol))
        events = self.source.events_between(place, self.source.place())
        self.hub.publish(self.feed_core.messages(events))
        self.hub.publish(self.versions())
        self.near.on_batch(self.hub.after(position))
        self.near.heard_s = self.clock.monotonic_s()
