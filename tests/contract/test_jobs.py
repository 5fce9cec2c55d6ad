"""Every job does what it says, twice the same, on both databases."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from actors.alerts.client import AlertClient
from actors.feed.client import FeedClient
from actors.indicators.client import BULLISH, IndicatorClient
from infra.bars import NS_PER_DAY, Quote
from infra.clock import SystemClock
from infra.db.alerts import Alert
from infra.db.bulk import import_bars, upsert_bars
from infra.db.contents import Content
from infra.db.expired import CONTENTS, Expired, older_than
from infra.db.signals import StoredSignal
from infra.db.store import Store
from infra.db.unit import Unit
from infra.errors import NotBuilt, SourceUnavailable
from infra.sources.base import NewsItem
from pipelines.jobs.bars import changed
from pipelines.jobs.base import JobContext, JobFailed
from pipelines.jobs.records import reason_of
from pipelines.jobs.registry import all_jobs
from pipelines.jobs.signals import outcome_of
from tests.contract.test_store import bars, read, same
from tests.databases import KINDS, database
from tests.local import LocalAlerts, LocalService
from tests.task_queues import LocalTasks

NOW = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)


class Hurried(SystemClock):
    """A clock whose pauses take no time."""

    async def sleep(self, delay_s: float) -> None:
        return


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with database(request.param, tmp_path) as url:
        made = Store(url)
        await made.migrate()
        yield made
        assert made.in_use == 0
        await made.close()


@pytest.fixture
def local(tmp_path: Path) -> LocalService:
    return LocalService(tmp_path)


@pytest.fixture
def context(local: LocalService, store: Store) -> JobContext:
    return JobContext(
        settings=local.settings,
        clock=Hurried(),
        source=local.services.source,
        universe=local.services.universe,
        store=store,
        feed=cast(FeedClient, local.feed),
        indicators=cast(IndicatorClient, local.indicators),
        alerts=cast(AlertClient, LocalAlerts(store, local.indicators)),
        tasks=LocalTasks(local.settings, store),
    )


async def ran(name: str, context: JobContext) -> str:
    return await all_jobs()[name].run(context)


@pytest.mark.parametrize("name", sorted(all_jobs()))
async def test_a_job_can_be_described_and_runs_twice(name: str, context: JobContext) -> None:
    job = all_jobs()[name]

    assert job.spec.name == name
    assert job.spec.title.endswith(".")
    assert job.spec.timeout_s > 0
    for _ in range(2):
        assert await job.run(context)


# -- bars --------------------------------------------------------------------------------------


async def test_daily_bars_are_kept_and_gaps_filled(
    context: JobContext, local: LocalService
) -> None:
    first = await ran("bars.daily", context)
    history = local.source.history_now("AAPL").bars
    kept = await read(context.store)
    recent = history[history.opened_at_ns > history.opened_at_ns[-1] - 3_650 * NS_PER_DAY]

    assert first.startswith("7 symbols, ")
    assert same(kept, recent)
    expiring = replace(CONTENTS, table=_bars_table(), age=_bars_table().c.opened_at)
    middle = _bars_table().c.opened_at == int(kept.opened_at_ns[50]) // 10**9
    rows = await context.store.read(lambda unit: Expired(unit.connection, expiring, middle).read())
    await context.store.write(lambda unit: Expired(unit.connection, expiring, middle).delete(rows))
    assert len(await read(context.store)) == len(kept) - 1

    again = await ran("bars.daily", context)

    assert again == f"7 symbols, {len(rows)} bars written"
    assert same(await read(context.store), recent)


def _bars_table() -> Any:
    from infra.db.tables import bars as table

    return table


def test_only_what_differs_is_written() -> None:
    held = bars(10)
    revised = replace(held, close=np.where(np.arange(10) == 4, 1.0, held.close))
    more = bars(12)

    assert len(changed(held, held)) == 0
    assert changed(revised, held).opened_at_ns.tolist() == [held.opened_at_ns[4]]
    assert len(changed(more, held[:0])) == 12
    assert len(changed(held, held[3:])) == 3


async def test_a_source_that_fails_for_one_symbol_fails_no_other(
    context: JobContext, local: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = local.feed.histories

    async def broken(symbols: list[str], **options: Any) -> dict[str, Any]:
        if symbols == ["META"]:
            return {"META": SourceUnavailable("does not answer")}
        return await whole(symbols, **options)

    monkeypatch.setattr(local.feed, "histories", broken)

    told = await ran("bars.daily", context)

    assert told.startswith("6 symbols")
    assert "1 failed: META: does not answer" in told


async def test_a_job_that_can_do_nothing_fails(
    context: JobContext, local: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(symbols: list[str], **options: Any) -> dict[str, Any]:
        return dict.fromkeys(symbols, SourceUnavailable("does not answer"))

    monkeypatch.setattr(local.feed, "histories", broken)

    with pytest.raises(JobFailed, match="and 2 more"):
        await ran("bars.daily", context)


# -- records and snapshots ---------------------------------------------------------------------


async def test_records_are_noted_once_and_follow_the_bars(
    context: JobContext, local: LocalService
) -> None:
    await ran("records.extremes", context)
    again = await ran("records.extremes", context)
    held = await context.store.read(lambda unit: unit.high_records.latest("replay", ["AAPL"]))
    closed = local.indicators.book.closed("AAPL")
    quote = (await local.feed.quotes(["AAPL"]))["AAPL"]

    assert again == "7 symbols, 0 records"
    assert isinstance(quote, Quote)
    assert held["AAPL", "high"].price == max(closed.high.max(), quote.high)
    assert held["AAPL", "low"].price == closed.low.min()
    assert held["AAPL", "high"].reason == "first"


def test_a_record_is_beaten_or_rebased() -> None:
    from infra.db.high_records import Record

    high = Record("AAPL", "yahoo", "high", 100.0, "2026-03-03", "first", NOW, NOW)
    low = replace(high, kind="low")

    assert reason_of("high", 100.0 * (1 + 1e-12), high) is None
    assert reason_of("high", 101.0, high) == "beaten"
    assert reason_of("high", 50.0, high) == "rebased"
    assert reason_of("low", 99.0, low) == "beaten"
    assert reason_of("low", 200.0, low) == "rebased"
    assert reason_of("low", 1.0, None) == "first"


async def test_snapshots_are_of_the_last_closed_session(
    context: JobContext, local: LocalService
) -> None:
    for field in ("close", "high", "low"):
        await ran(f"snapshots.{field}", context)
    found = await context.store.read(lambda unit: unit.snapshots.latest("replay", ["META"]))
    closed = local.indicators.book.closed("META")

    snapshot = found["META"]
    assert snapshot.session == closed.session(-1).isoformat()
    assert (snapshot.close, snapshot.high, snapshot.low) == (
        closed.close[-1],
        closed.high[-1],
        closed.low[-1],
    )


# -- alerts ------------------------------------------------------------------------------------


def quote(price: float) -> Quote:
    return Quote(
        "AAPL",
        price,
        100.0,
        100.0,
        110.0,
        90.0,
        1,
        date(2026, 3, 4),
        0,
        "open",
        "yahoo",
        False,
        "v",
    )


async def test_the_monitor_gives_an_alert_once(context: JobContext) -> None:
    first = await ran("prices.monitor", context)
    given = await context.store.read(lambda unit: unit.alerts.after(0, 100))
    again = await ran("prices.monitor", context)

    assert first == f"7 symbols, {len(given)} alerts"
    assert given
    assert again == "7 symbols, 0 alerts"
    for _, alert in given:
        assert alert.current_price is not None
        assert alert.base_price is not None
        assert alert.actual_percent == pytest.approx(
            (alert.current_price - alert.base_price) / alert.base_price * 100
        )


# -- analyses, news ----------------------------------------------------------------------------


async def test_analyses_are_kept_by_their_bar(context: JobContext, local: LocalService) -> None:
    assert await ran("analysis.technical", context) == "7 analyses"
    kept = await context.store.read(lambda unit: unit.analyses.latest("AAPL", "1d", "replay"))

    assert kept is not None
    body = orjson.loads(kept.body)
    direct = await local.indicators.comprehensive(["AAPL"], "1mo", "1d", "standard", False)
    assert not isinstance(direct["AAPL"], Exception)
    assert body["indicators"]["rsi"] == direct["AAPL"]["indicators"]["rsi"]
    assert kept.as_of.isoformat() == body["as_of"]


async def test_news_are_kept_once_with_language_and_sentiment(
    context: JobContext, local: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = (
        item("a", "Apple shares surge as earnings beat every expectation"),
        item("b", "Aktie von Apple fällt nach schlechten Zahlen deutlich zurück"),
    )

    async def news(symbol: str, count: int) -> tuple[NewsItem, ...]:
        return items

    monkeypatch.setattr(local.feed, "news", news)
    first = await ran("news.stocks", context)
    again = await ran("news.stocks", context)
    kept = await context.store.read(lambda unit: unit.contents.latest(None, 10))

    assert first.endswith("2 new articles")
    assert again.endswith("0 new articles")
    by_language = {content.language: content.sentiment for content in kept}
    assert by_language["de"] is None
    assert (by_language["en"] or 0) > 0.2


def item(name: str, title: str) -> NewsItem:
    url = f"https://news.example/{name}"
    at_ns = int(NOW.timestamp()) * 10**9
    return NewsItem(name, title, url, "Paper", at_ns, ("AAPL",), None, "yahoo", at_ns)


async def test_a_source_without_news_says_so(context: JobContext) -> None:
    assert "has no news" in await ran("news.stocks", context)
    with pytest.raises(NotBuilt):
        await context.feed.news("AAPL", 1)


# -- signals -----------------------------------------------------------------------------------


async def test_signals_are_kept_once_and_followed(
    context: JobContext, local: LocalService
) -> None:
    first = await ran("signals.daily", context)
    again = await ran("signals.daily", context)
    followed = await ran("signals.outcomes", context)
    kept = await context.store.read(lambda unit: unit.signals.latest("replay", "AAPL"))

    assert again == "7 symbols, 0 new signals"
    assert first != again
    assert followed.endswith("outcomes")
    direct = await local.indicators.signals(["AAPL"], "1d", 30)
    assert not isinstance(direct["AAPL"], Exception)
    assert len(kept) == len(direct["AAPL"])
    number, oldest = kept[-1]
    outcome = await context.store.read(lambda unit: unit.signals.outcome(number))
    assert outcome is not None
    bars = local.indicators.book.closed("AAPL")
    row = [bars.session(r) for r in range(len(bars))].index(oldest.triggered_at.date())
    sign = 1 if oldest.signal_type in BULLISH else -1
    wanted = sign * (bars.close[row + 1] / bars.close[row] - 1) * 100
    assert outcome.returns["1d"] == pytest.approx(wanted)


def signal_at(day: int, kind: str = "golden_cross") -> StoredSignal:
    at = datetime.fromtimestamp(day * 86_400, UTC)
    return StoredSignal("AAPL", "yahoo", kind, "1d", at, 1.0, 1.0, 1.0, 1, NOW)


def test_an_outcome_takes_the_bar_nearest_each_horizon() -> None:
    held = replace(bars(60, 15_000), close=np.linspace(100, 159, 60))
    held = held[np.array([True] * 5 + [False] * 4 + [True] * 51)]  # no bars of days 5 to 8

    outcome = outcome_of(1, signal_at(15_001), held, NOW)
    falling = outcome_of(1, signal_at(15_001, "dead_cross"), held, NOW)

    assert outcome is not None
    assert falling is not None
    assert outcome.prices["1d"] == held.close[2]
    assert outcome.prices["1w"] == held.close[5]  # day 9, as day 8 is not there
    assert outcome.is_complete
    assert outcome.max_return == pytest.approx((131 / 101 - 1) * 100)
    assert falling.returns["1m"] == -outcome.returns["1m"]
    assert falling.max_drawdown == pytest.approx(-(131 / 101 - 1) * 100)


def test_an_outcome_waits_for_what_has_not_come() -> None:
    held = bars(5, 15_000)

    young = outcome_of(1, signal_at(15_003), held, NOW)
    newest = outcome_of(1, signal_at(15_004), held, NOW)

    assert young is not None
    assert newest is not None
    assert (set(young.prices), young.is_complete) == ({"1d"}, False)
    assert (newest.prices, newest.max_return) == ({}, None)
    assert outcome_of(1, signal_at(14_000), held, NOW) is None


# -- retention ---------------------------------------------------------------------------------


async def test_what_is_over_its_age_is_archived_and_then_deleted(
    context: JobContext, tmp_path: Path
) -> None:
    old, new = bars(1_500, 8_000), bars(100, 15_000, seed=2)
    await upsert_bars(context.store, "AAPL", "1d", "yahoo", old)
    await upsert_bars(context.store, "AAPL", "1d", "yahoo", new)
    await import_bars(context.store, "OWN", "1d", bars(10, 3_000))
    await import_bars(context.store, "OWN", "1d", bars(10, 15_000))
    article = Content("AAPL", "yahoo", "https://x", "T", None, None, None, None, NOW, NOW)
    ancient = replace(article, url="https://y", published_at=NOW - timedelta(days=800))
    fresh = replace(article, published_at=datetime.now(UTC))
    await context.store.write(lambda unit: unit.contents.add([ancient, fresh]))

    alert = Alert(
        "surge", "AAPL", "surge", "window", 1.0, 2.0, 5.0, 100.0, "high", "it rose", "yahoo",
        False, NOW, NOW - timedelta(days=800),
    )  # fmt: skip

    async def alerted(unit: Unit) -> None:
        await unit.alerts.give(alert, "2024-01-01", timedelta(0), False)
        told = [("https://example.org", "whsec_x")]
        await unit.deliveries.add("alert-1", "{}", told, alert.triggered_at)

    await context.store.write(alerted)

    told = await ran("store.retention", context)

    assert told == (
        "1,500 rows of bars, 1 rows of alerts, 1 rows of contents, 1 rows of deliveries, "
        "0 rows of slow_query_logs"
    )
    assert not (tmp_path / "archive" / "deliveries").exists()
    assert same(await read(context.store), new)
    assert len(await read(context.store, "OWN")) == 20
    files = sorted((tmp_path / "archive" / "bars").iterdir())
    tables = [pq.read_table(file) for file in files]
    assert [table.num_rows for table in tables] == [1_000, 500]
    closes = [close for table in tables for close in table["close"].to_pylist()]
    assert closes == old.close.tolist()
    assert (await context.store.read(lambda unit: unit.contents.latest(None, 9))) == [fresh]


async def test_nothing_is_deleted_that_could_not_be_archived(
    context: JobContext, tmp_path: Path
) -> None:
    await upsert_bars(context.store, "AAPL", "1d", "yahoo", bars(10, 8_000))
    await upsert_bars(context.store, "AAPL", "1d", "yahoo", bars(1, 15_000))
    (tmp_path / "archive").write_text("a file where the folder should be")

    with pytest.raises(JobFailed, match="nothing more deleted of bars"):
        await ran("store.retention", context)

    assert len(await read(context.store)) == 11


async def test_rows_are_expired_by_their_own_age(context: JobContext) -> None:
    before = NOW - timedelta(days=1)
    rows = await context.store.read(
        lambda unit: Expired(unit.connection, CONTENTS, older_than(CONTENTS, before)).read()
    )

    assert rows == []


def test_every_job_is_listed_with_its_time_and_none_keeps_a_zone_of_its_own() -> None:
    page = (Path(__file__).parents[2] / "docs" / "store.md").read_text()
    listed: dict[str, str] = {}
    for line in page.splitlines():
        cells = line.split("|")
        if len(cells) < 4:
            continue
        names = re.findall(r"`(\.?[a-z_.]+)`", cells[1])
        for name in names:
            full = name if not name.startswith(".") else names[0].partition(".")[0] + name
            listed[full] = cells[2]
    for name, job in all_jobs().items():
        assert name in listed, f"{name} is not in docs/store.md"
        at = re.search(r"(\d\d:\d\d) (\S+)$", job.spec.trigger.text)
        if at is not None:
            assert at[2] == "UTC", f"{name}: {job.spec.trigger.text}"
            assert f"{at[1]} UTC" in listed[name]
