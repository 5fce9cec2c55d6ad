"""Every task that comes with Finstage, found by discovery: real results, safe to run twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from aiohttp import web

from infra.clock import SystemClock, utc
from infra.db.alerts import Alert
from infra.db.contents import Content
from infra.db.unit import Unit
from infra.errors import (
    FinstageError,
    SourceUnavailable,
    SymbolUnknown,
    TaskArgumentsInvalid,
)
from infra.notify.channels import AnySender, ChannelSender
from infra.notify.webhook import WebhookSender
from infra.outbox import Courier
from infra.sources.base import Fundamentals
from infra.sources.origin import ORIGINS, origin_of
from pipelines.codec import encoded
from pipelines.context import TaskContext, TaskServices
from pipelines.jobs.base import JobFailed
from pipelines.registry import TaskSpec, all_tasks
from pipelines.tasks.names import all_failed
from pipelines.tasks.reports import technical_score
from tests.local import LocalService

BUILTIN = {name: spec for name, spec in all_tasks().items() if "pipelines.tasks" in spec.target}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "process_dataset": {"symbol": "aapl", "period": "1y"},
    "generate_report": {"symbols": ["AAPL", "NOPE"], "date": date(2012, 8, 20)},
    "generate_weekly_report": {"symbols": ["AAPL", "IBM"]},
    "send_notifications": {"notifications": [{"recipient": "no url at all"}]},
    "cleanup_data": {"days_to_keep": 30},
    "market_analysis": {"analysis_type": "comprehensive"},
    "historical_data_collection": {"symbols": ["AAPL", "NOPE"], "period": "1mo"},
    "technical_analysis_batch": {"symbols": ["AAPL", "NOPE"]},
    "daily_comprehensive_report": {},
}
MANY = sorted(name for name, spec in BUILTIN.items() if "symbols" in spec.parameters)


class LocalServices(TaskServices):
    """The service as tasks see it, from one of this process."""

    def __init__(self, local: LocalService) -> None:
        super().__init__(local.settings)
        self.clock = SystemClock()
        for name in ("feed", "indicators", "store", "source", "universe", "alerts"):
            self.__dict__[name] = getattr(local.services, name)


def context(local: LocalService, task_id: str = "t") -> tuple[TaskContext, list[float]]:
    told: list[float] = []
    services = LocalServices(local)
    return TaskContext(task_id, "t", 1, services, lambda pct, _: told.append(pct)), told


async def effects(local: LocalService) -> dict[str, int | str]:
    """What is in the store and among the files: rows of each table, and names."""

    async def count(unit: Unit) -> dict[str, int | str]:
        tables = ("bars", "alerts", "deliveries", "contents", "analyses", "slow_query_logs")
        rows = {
            t: await unit.connection.exec_driver_sql(f"SELECT count(*) FROM {t}") for t in tables
        }
        return {table: int(found.scalar_one()) for table, found in rows.items()}

    folder = local.settings.data_dir
    files: dict[str, int | str] = {
        str(path): "" for path in folder.rglob("*") if "store.db" not in path.name
    }
    return files | await local.services.store.read(count)


async def run(spec: TaskSpec, ctx: TaskContext, **kwargs: Any) -> Any:
    stored = orjson.loads(spec.arguments((), kwargs))["kwargs"]  # as it comes out of the store
    bound = spec.bound(spec.checked((), stored), ctx)
    return await spec.function(*bound.args, **bound.kwargs)


def test_all_of_them_are_tested_here() -> None:
    assert set(ARGUMENTS) == set(BUILTIN)


@pytest.mark.parametrize("name", sorted(BUILTIN))
async def test_it_runs_twice_with_the_same_result_and_tells_of_its_progress(
    name: str, local: LocalService
) -> None:
    spec = BUILTIN[name]
    ctx, told = context(local)
    first = await run(spec, ctx, **ARGUMENTS[name])
    once = await effects(local)
    second = await run(spec, context(local)[0], **ARGUMENTS[name])

    assert spec.title
    for result in (first, second):
        encoded(result, "the result")
    assert set(first) == set(second)
    assert await effects(local) == once
    assert told
    assert told == sorted(told), "progress only grows"
    assert all(0 <= pct <= 100 for pct in told)


@pytest.mark.parametrize("name", MANY)
async def test_what_can_be_no_symbol_fails_alone(name: str, local: LocalService) -> None:
    result = await run(BUILTIN[name], context(local)[0], symbols=["aapl", "no symbol!", "AAPL"])

    rows = result.get("results") or result["symbol_data"]
    assert list(rows) == ["AAPL", "no symbol!"]
    assert "is not known" in str(rows["no symbol!"])
    assert "is not known" not in str(rows["AAPL"])
    with pytest.raises(JobFailed, match="is not known"):
        await run(BUILTIN[name], context(local)[0], symbols=["no symbol!", "nor this!"])


def test_where_all_fail_what_a_retry_helps_goes_first() -> None:
    away, unknown = SourceUnavailable("away"), SymbolUnknown("NOPE")
    assert all_failed("nothing", [unknown, away]) is away
    lost = all_failed("nothing", [unknown])
    assert isinstance(lost, JobFailed)
    assert not lost.retryable


@pytest.mark.parametrize("name", MANY)
async def test_an_outage_of_the_source_is_tried_again(
    name: str, local: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> Any:
        raise SourceUnavailable("the source does not answer")

    for method in ("history", "table", "comprehensive", "signals"):
        monkeypatch.setattr(local.indicators, method, away)
    with pytest.raises(FinstageError) as caught:
        await run(BUILTIN[name], context(local)[0], symbols=["AAPL", "no symbol!"])
    assert caught.value.retryable


async def test_a_data_set_is_the_real_history(local: LocalService) -> None:
    result = await run(BUILTIN["process_dataset"], context(local)[0], symbol="AAPL")
    series = await local.services.indicators.history("AAPL", "1y")

    assert result["data_points"] == len(series.bars)
    assert result["price_range"]["max"] == max(series.bars.close)
    assert result["price_range"]["current"] == series.bars.close[-1]
    assert 0 < result["memory_usage_mb"] < result["memory_before_mb"]
    assert 0 < result["technical_indicators"]["rsi"] < 100
    longer = await run(BUILTIN["process_dataset"], context(local)[0], symbol="AAPL", period="5y")
    assert longer["data_points"] > result["data_points"]


async def test_a_report_has_the_figures_of_its_date_and_is_a_page(local: LocalService) -> None:
    spec = BUILTIN["generate_report"]
    result = await run(spec, context(local)[0], symbols=["AAPL", "NOPE"], date=date(2012, 8, 19))

    row = result["symbol_data"]["AAPL"]
    assert (result["report_date"], row["session"]) == ("2012-08-17", "2012-08-17")  # a Friday
    assert result["symbol_data"]["NOPE"]["code"] == "symbol_unknown"
    assert result["summary"]["failed_symbols"] == 1
    folder = local.settings.data_dir / "reports"
    page = (folder / result["files"]["html"]).read_text()
    assert "<svg" in page
    assert "AAPL" in page
    assert "<script" not in page
    kept = orjson.loads((folder / result["files"]["json"]).read_bytes())
    assert kept["symbol_data"]["AAPL"]["current_price"] == row["current_price"]
    again = await run(spec, context(local)[0], symbols=["AAPL", "NOPE"], date=date(2012, 8, 17))
    assert again["files"] == result["files"]
    assert len(list(folder.iterdir())) == 2
    with pytest.raises(FinstageError):
        await run(spec, context(local)[0], symbols=["AAPL"], date=date(1950, 1, 1))


@pytest.mark.parametrize("source", sorted(ORIGINS))
async def test_a_report_says_what_its_prices_are(
    local: LocalService, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sources(symbols: list[str], interval: str = "1d") -> dict[str, str]:
        return dict.fromkeys(symbols, source)

    monkeypatch.setattr(local.feed, "sources", sources)
    result = await run(BUILTIN["generate_report"], context(local)[0], symbols=["AAPL"])

    label = origin_of(source).label
    page = (local.settings.data_dir / "reports" / result["files"]["html"]).read_text()
    assert result["source_label"] == label
    assert f"source {label}" in page


async def test_a_report_of_the_past_has_no_figures_of_now(
    local: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def known(symbol: str) -> Fundamentals:
        return Fundamentals(symbol, {"marketCap": 6e11, "trailingPE": 15.5}, "test", 0)

    monkeypatch.setattr(local.feed, "fundamentals", known)
    spec = BUILTIN["generate_report"]
    now = (await run(spec, context(local)[0], symbols=["AAPL"]))["symbol_data"]["AAPL"]
    then = await run(spec, context(local)[0], symbols=["AAPL"], date=date(2012, 3, 1))

    assert (now["market_cap"], now["pe_ratio"]) == (6e11, 15.5)
    past = then["symbol_data"]["AAPL"]
    assert (past["session"], past["market_cap"], past["pe_ratio"]) == ("2012-03-01", None, None)


async def test_a_weekly_report_looks_back_five_sessions(local: LocalService) -> None:
    result = await run(BUILTIN["generate_weekly_report"], context(local)[0], symbols=["AAPL"])
    bars = (await local.services.indicators.history("AAPL", "1mo")).bars

    row = result["symbol_data"]["AAPL"]
    assert row["change_percent"] == pytest.approx(100 * (bars.close[-1] / bars.close[-6] - 1))
    assert (row["high"], row["low"]) == (max(bars.high[-5:]), min(bars.low[-5:]))
    assert row["volume"] == sum(bars.volume[-5:])


def test_the_score_counts_the_signs_that_are_known() -> None:
    values = {"sma(20)": 9.0, "sma(50)": 11.0, "rsi(14)": 60.0}
    assert technical_score(values, 10.0) == pytest.approx(200 / 3)
    assert technical_score({}, 10.0) is None


async def test_a_clean_up_counts_what_it_deletes(local: LocalService) -> None:
    old = utc(SystemClock().time_s()) - timedelta(days=40)
    alert = Alert("r", "AAPL", "t", "b", 1.0, 1.0, 1.0, 1.0, "info", "m", "s", False, old, old)

    async def fill(unit: Unit) -> None:
        await unit.alerts.give(alert, "x", timedelta(), False)

    await local.services.store.write(fill)
    spec = BUILTIN["cleanup_data"]
    kept = await run(spec, context(local)[0], days_to_keep=60)
    gone = await run(spec, context(local)[0], days_to_keep=30)

    assert kept["total_records_deleted"] == 0
    rows = {row["table_name"]: row["records_deleted"] for row in gone["cleaned_tables"]}
    assert (rows["alerts"], gone["total_records_deleted"]) == (1, 1)
    assert list((local.settings.data_dir / "archive").rglob("*.parquet"))


async def test_a_market_analysis_states_its_error(local: LocalService) -> None:
    result = await run(BUILTIN["market_analysis"], context(local)[0])

    predictions = result["predictions"]["figures"]
    assert predictions["available"] is True
    assert 0.3 < predictions["accuracy"] < 0.7
    assert predictions["forecasts"] > 500
    assert result["predictions"]["confidence_score"] == predictions["accuracy"]
    risk = result["risk_assessment"]["figures"]["symbols"]["AAPL"]
    assert risk["cvar_95_pct"] <= risk["var_95_pct"] < 0
    assert risk["max_drawdown_pct"] < 0
    wide = result["market_sentiment"]["figures"]["breadth"]
    assert wide["advances"] + wide["declines"] + wide["unchanged"] == wide["symbols"]
    only = await run(BUILTIN["market_analysis"], context(local)[0], analysis_type="risk")
    assert only["predictions"] is None
    with pytest.raises(TaskArgumentsInvalid, match="analysis_type"):
        await run(BUILTIN["market_analysis"], context(local)[0], analysis_type="luck")


async def test_a_young_symbol_tells_no_model_of_days_it_is_tested_on(local: LocalService) -> None:
    result = await run(BUILTIN["market_analysis"], context(local)[0])

    assert len((await local.services.indicators.history("META", "2y")).bars) < 100
    predictions = result["predictions"]["figures"]
    assert predictions["left_out"] == ["META"]
    assert "META" not in predictions["chance_of_rise"]
    risk = result["risk_assessment"]["figures"]
    assert "META" not in risk["correlation_symbols"]
    assert (risk["symbols"]["META"]["sessions"], risk["correlation_sessions"]) == (70, 252)
    assert result["risk_assessment"]["confidence_score"] == pytest.approx(6 / 7)


async def test_symbols_without_bars_make_an_analysis_less_sure(
    local: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, histories = BUILTIN["market_analysis"], local.indicators.histories
    gone = {"GOOGL", "IBM", "MSFT"}

    async def some(symbols: Any, *rest: Any) -> Any:
        answers = await histories(symbols, *rest)
        return answers | {symbol: SourceUnavailable("away") for symbol in gone}

    async def none(symbols: Any, *_: Any) -> Any:
        return {symbol: SourceUnavailable("away") for symbol in symbols}

    monkeypatch.setattr(local.indicators, "histories", some)
    result = await run(spec, context(local)[0], analysis_type="sector")
    monkeypatch.setattr(local.indicators, "histories", none)

    assert set(result["failed_symbols"]) == gone
    assert result["sector_analysis"]["confidence_score"] == pytest.approx(3 / 7)
    with pytest.raises(SourceUnavailable):
        await run(spec, context(local)[0])


async def test_without_its_library_nothing_is_forecast(
    local: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.tasks.market_analysis.can_forecast", lambda: False)
    result = await run(BUILTIN["market_analysis"], context(local)[0], analysis_type="predictions")

    reason = "install finstage[ml]"
    assert result["predictions"]["figures"] == {"available": False, "reason": reason}
    assert result["predictions"]["confidence_score"] is None


async def test_the_mood_knows_the_news_of_a_week(local: LocalService) -> None:
    now = utc(SystemClock().time_s())

    async def fill(unit: Unit) -> None:
        await unit.contents.add(
            [
                Content("AAPL", "s", f"u{days}", "t", None, None, "en", mood, when, when)
                for days, mood in ((1, 0.5), (2, -0.1), (3, None), (20, -1.0))
                for when in [now - timedelta(days=days)]
            ]
        )

    spec = BUILTIN["market_analysis"]
    before = await run(spec, context(local)[0], analysis_type="sentiment")
    await local.services.store.write(fill)
    after = await run(spec, context(local)[0], analysis_type="sentiment")

    news = [result["market_sentiment"]["figures"]["news"] for result in (before, after)]
    assert news[0] == {"mean_sentiment": None, "articles": 0}
    assert news[1] == {"mean_sentiment": pytest.approx(0.2), "articles": 2}


async def test_collected_bars_are_in_the_store_once(local: LocalService) -> None:
    spec = BUILTIN["historical_data_collection"]
    first = await run(spec, context(local)[0], symbols=["AAPL"], period="3mo")
    second = await run(spec, context(local)[0], symbols=["AAPL"], period="3mo")

    held = await local.services.store.read(lambda unit: unit.bars.read("AAPL", "1d"))
    found = first["results"]["AAPL"]
    assert found["written"] == found["data_points"] == len(held) > 50
    assert second["results"]["AAPL"]["written"] == 0
    with pytest.raises(JobFailed):
        await run(spec, context(local)[0], symbols=["NOPE"])


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    got: list[dict[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        got.append(await request.json())
        return web.Response(status=410 if request.path == "/gone" else 204)

    app = web.Application()
    app.router.add_post("/{name}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = cast(Any, site._server).sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}", got
    await runner.cleanup()


async def test_notifications_go_once_and_the_counts_are_true(
    tmp_path: Path, receiver: tuple[str, list[dict[str, Any]]]
) -> None:
    url, got = receiver
    local = LocalService(tmp_path, notify_private=True)
    ctx, _ = context(local, "task-7")
    many = [
        {"recipient": f"{url}/hook", "type": "hello", "message": "one"},
        {"recipient": f"{url}/gone", "message": "two"},
        {"recipient": f"{url.replace('http', 'json')}/chat", "title": "hi", "message": "three"},
        {"recipient": "no url at all"},
    ]
    async with WebhookSender(SystemClock(), "test", 5.0, True) as sender:
        either = AnySender(sender, ChannelSender(allow_private=True))
        courier = Courier(local.services.store, either, SystemClock())
        bringing = asyncio.create_task(courier.run())
        first = await run(BUILTIN["send_notifications"], ctx, notifications=many)
        again = await run(BUILTIN["send_notifications"], ctx, notifications=many)
        bringing.cancel()
        await courier.idle()

    counts = ("total_notifications", "successful_sends", "failed_sends", "pending_sends")
    assert [first[name] for name in counts] == [4, 2, 2, 0]
    assert [again[name] for name in counts] == [4, 2, 2, 0]
    assert len(got) == 3, "each went once, though the task ran twice"
    statuses = [detail["status"] for detail in first["send_details"]]
    assert statuses == ["sent", "failed", "sent", "failed"]
    (by_apprise,) = [one for one in got if "title" in one and one["title"] == "hi"]
    assert by_apprise["message"] == "three"
    assert "hook" not in orjson.dumps(first).decode()


async def test_no_notifications_are_a_result_too(local: LocalService) -> None:
    ctx, told = context(local)
    result = await run(BUILTIN["send_notifications"], ctx, notifications=[])

    assert (result["total_notifications"], result["send_details"]) == (0, [])
    assert told


async def test_what_is_no_webhook_goes_only_where_an_operator_said(local: LocalService) -> None:
    one = {"recipient": "json://127.0.0.1:9/t0psecret", "message": "x"}
    result = await run(BUILTIN["send_notifications"], context(local)[0], notifications=[one])

    assert result["failed_sends"] == 1
    assert "FINSTAGE_NOTIFY_TARGETS" in result["send_details"][0]["error"]
    assert "t0psecret" not in orjson.dumps(result).decode()
