"""Every route's real answers: their shape, their values, their errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import talib
from pydantic import BaseModel

from serve.rest import indicator_schemas, schemas, store_schemas
from serve.rest.envelope import Envelope
from tests.local import LocalService

TA = "/api/v2/technical-analysis"
SYMBOLS = ("AAPL", "GOOGL", "IBM", "META", "MSFT", "^GSPC", "^IXIC")

ANSWERS: list[tuple[str, str, Any, type[BaseModel]]] = [
    ("GET", f"{TA}/indicators/AAPL", None, schemas.Indicators),
    ("GET", f"{TA}/indicators/META?period=max&interval=1mo", None, schemas.Indicators),
    ("GET", f"{TA}/indicators/^GSPC?method=reference", None, schemas.Indicators),
    ("GET", f"{TA}/indicators/aapl?indicators=rsi,macd&open_bar=true", None, schemas.Indicators),
    ("POST", f"{TA}/batch/indicators", {"symbols": ["AAPL", "NOPE"]}, schemas.BatchIndicators),
    ("POST", f"{TA}/batch/indicators?period=1y", ["IBM"], schemas.BatchIndicators),
    ("GET", f"{TA}/prices/monitor", None, schemas.MonitoredPrices),
    ("GET", f"{TA}/prices/monitor?symbols=AAPL,NOPE&alerts_only=true", None,
     schemas.MonitoredPrices),
    ("GET", f"{TA}/prices/batch?symbols=AAPL,NOPE&include_history=true", None,
     schemas.BatchPrices),
    ("POST", f"{TA}/analysis/comprehensive", {"symbols": ["AAPL", "NOPE"]},
     schemas.Comprehensive),
    ("POST", f"{TA}/analysis/comprehensive", ["META"], schemas.Comprehensive),
    ("GET", "/api/v2/prices/AAPL/history", None, schemas.HistoryBody),
    ("GET", "/api/v2/prices/AAPL/history?start=2012-08-01&end=2012-08-11", None,
     schemas.HistoryBody),
    ("GET", "/api/v2/prices/META/history?period=max&interval=1wk&adjusted=false", None,
     schemas.HistoryBody),
    ("GET", "/api/v2/async/symbols/AAPL/price", None, schemas.SimplePrice),
    ("GET", "/api/v2/async/symbols/batch?symbols=AAPL,NOPE", None, schemas.SimplePrices),
    ("GET", "/api/v2/async/technical/analysis/META", None, schemas.SimpleTrend),
    ("GET", "/api/v2/symbols?category=index", None, schemas.SymbolPage),
    ("POST", "/api/v2/symbols", {"symbols": ["AAPL"]}, schemas.MonitoredSymbols),
    ("DELETE", "/api/v2/symbols?symbols=AAPL", None, schemas.MonitoredSymbols),
    ("GET", "/api/v2/coverage/AAPL", None, store_schemas.CoverageBody),
    ("GET", "/health/live", None, schemas.Alive),
    ("GET", "/health/ready", None, schemas.Ready),
    ("POST", f"{TA}/analysis/comprehensive", {"symbols": ["AAPL"], "save_results": True},
     schemas.Comprehensive),
    ("GET", f"{TA}/catalog", None, indicator_schemas.Catalogue),
    ("GET", f"{TA}/indicators/AAPL?indicators=rsi(21),bbands(20,2.5),cdlengulfing", None,
     indicator_schemas.NamedIndicators),
    ("GET", f"{TA}/indicators/AAPL?indicators=sma(300),adx&open_bar=true&interval=1wk", None,
     indicator_schemas.NamedIndicators),
    ("GET", f"{TA}/indicators/AAPL?series=true&last=3", None,
     indicator_schemas.IndicatorSeries),
    ("GET", f"{TA}/indicators/META?indicators=trix,psar&series=true&period=1y", None,
     indicator_schemas.IndicatorSeries),
    ("POST", f"{TA}/screen", {"expression": "close > sma(20)", "symbols": ["AAPL", "NOPE"]},
     indicator_schemas.ScreenResult),
    ("GET", f"{TA}/ranking?by=roc(20)", None, indicator_schemas.RankingResult),
    ("GET", f"{TA}/signals?symbols=AAPL,NOPE&last=50", None, indicator_schemas.SignalList),
    ("GET", f"{TA}/signals/AAPL?signal_type=golden_cross&last=5000", None,
     indicator_schemas.SignalList),
    ("GET", f"{TA}/signals/kept?symbol=AAPL&hours=24", None, indicator_schemas.KeptSignals),
    ("GET", f"{TA}/signals/performance", None, indicator_schemas.SignalPerformances),
    ("GET", f"{TA}/sentiment/AAPL", None, indicator_schemas.SentimentBody),
    ("GET", f"{TA}/sentiment/META?interval=1mo", None, indicator_schemas.SentimentBody),
    ("GET", f"{TA}/correlation?symbols=AAPL,IBM,^GSPC", None,
     indicator_schemas.CorrelationResult),
    ("GET", "/api/scheduler/jobs", None, store_schemas.Jobs),
    ("POST", "/api/scheduler/jobs/bars.daily/run", None, store_schemas.JobStarted),
    ("POST", "/api/scheduler/jobs/bars.daily/pause", None, store_schemas.JobPaused),
    ("POST", "/api/scheduler/jobs/bars.daily/resume", None, store_schemas.JobPaused),
    ("GET", "/api/v2/market-price/current/AAPL", None, Envelope[store_schemas.CurrentPrice]),
    ("GET", "/api/v2/market-price/current/AAPL?include_details=true", None,
     Envelope[store_schemas.CurrentPrice]),
    ("POST", "/api/v2/market-price/batch/current", {"symbols": ["AAPL", "NOPE"]},
     Envelope[store_schemas.CurrentPrices]),
    ("GET", "/api/v2/market-price/snapshots/summary", None, store_schemas.SnapshotSummaries),
    ("GET", "/api/v2/market-price/high-records/summary?symbols=AAPL", None,
     store_schemas.HighRecordSummaries),
    ("GET", "/api/v2/news/latest", None, store_schemas.StoredNewsList),
    ("GET", "/api/database/query-stats", None, store_schemas.QueryStatsBody),
    ("GET", "/api/database/slow-queries?min_duration=0.5&table_name=bars", None,
     store_schemas.SlowQueries),
    ("GET", "/api/database/slow-queries/statistics", None, store_schemas.Statistics),
    ("GET", "/api/database/slow-queries/patterns", None, store_schemas.Patterns),
    ("POST", "/api/database/slow-queries/cleanup?days=1", None,
     store_schemas.SlowQueriesCleaned),
    ("GET", "/api/database/connection-pool", None, store_schemas.PoolBody),
    ("POST", "/api/database/slow-queries/flush", None, store_schemas.SlowQueriesFlushed),
    ("POST", "/api/database/connection-pool/optimize", None, store_schemas.PoolAdvice),
    ("GET", "/api/database/performance-summary", None, store_schemas.DatabaseSummary),
    ("POST", "/api/database/maintenance/reset-metrics", None, store_schemas.MetricsReset),
    ("GET", "/api/database/indexes/analysis", None, store_schemas.IndexAnalysis),
    ("GET", "/api/database/indexes/optimization-sql", None, store_schemas.IndexSql),
]  # fmt: skip

ERRORS: list[tuple[str, str, Any, int, str]] = [
    ("GET", f"{TA}/indicators/APPL", None, 404, "AAPL"),
    ("GET", f"{TA}/indicators/{'A' * 300}", None, 404, "symbol_unknown"),
    ("GET", f"{TA}/indicators/..%2f..%2fetc%2fpasswd", None, 404, "not_found"),
    ("GET", f"{TA}/indicators/A%00B", None, 404, "symbol_unknown"),
    ("GET", f"{TA}/indicators/AAPL?period=7y", None, 422, "10y"),
    ("GET", f"{TA}/indicators/AAPL?interval=1m", None, 422, "3mo"),
    ("GET", f"{TA}/indicators/AAPL?interval=4h", None, 422, "1wk"),
    ("GET", f"{TA}/indicators/AAPL?indicators=sma,foo", None, 422, "catalog"),
    ("GET", f"{TA}/indicators/AAPL?method=best", None, 422, "reference"),
    ("GET", f"{TA}/indicators/AAPL?indicators=rsi(1)", None, 422, "from 2 to 500"),
    ("GET", f"{TA}/indicators/AAPL?indicators=rsi(14", None, 422, "the end"),
    ("GET", f"{TA}/indicators/AAPL?indicators=rsy(14)", None, 422, "rsi"),
    ("GET", f"{TA}/indicators/AAPL?indicators=close", None, 422, "is a price"),
    ("GET", f"{TA}/indicators/AAPL?indicators=vwap", None, 422, "under a day"),
    ("GET", f"{TA}/indicators/AAPL?indicators=macd(1,2,3,4)", None, 422, "macd(fast,slow,signal)"),
    ("GET", f"{TA}/indicators/AAPL?series=true&last=0", None, 422, "last"),
    ("POST", f"{TA}/screen", {"expression": "rsi(14) <"}, 422, "the end"),
    ("POST", f"{TA}/screen", {"expression": "close > foo(3)"}, 422, "catalog"),
    ("POST", f"{TA}/screen", {"expression": "close"}, 422, "the end"),
    ("GET", f"{TA}/ranking?by=roc(", None, 422, "the end"),
    ("GET", f"{TA}/signals/NOPE", None, 404, "symbol_unknown"),
    ("GET", f"{TA}/signals/outcomes/7", None, 404, "signal_unknown"),
    ("GET", f"{TA}/signals/outcomes/x", None, 422, "signal_id"),
    ("GET", f"{TA}/signals?signal_type=gold", None, 422, "golden_cross"),
    ("GET", f"{TA}/sentiment/NOPE", None, 404, "symbol_unknown"),
    ("GET", f"{TA}/correlation?symbols=AAPL", None, 422, "2 to 100"),
    ("GET", f"{TA}/correlation?symbols=AAPL,NOPE", None, 404, "NOPE"),
    ("GET", f"{TA}/indicators/AAPL?open_bar=perhaps", None, 422, "open_bar"),
    ("POST", f"{TA}/batch/indicators", {"symbols": []}, 422, "at least one"),
    ("POST", f"{TA}/batch/indicators", {"symbols": "AAPL"}, 422, "symbols"),
    ("POST", f"{TA}/batch/indicators", {"symbols": ["A"] * 501}, 422, "500"),
    ("POST", f"{TA}/batch/indicators", {"symbols": ["NOPE"]}, 404, "symbol_unknown"),
    ("POST", f"{TA}/batch/indicators", {"symbols": ["AAPL"], "batch_size": 21}, 422, "20"),
    ("GET", f"{TA}/prices/batch", None, 422, "symbols"),
    ("GET", f"{TA}/prices/batch?symbols=,,", None, 422, "at least one"),
    ("GET", "/api/v2/prices/AAPL/history?start=2012-13-01", None, 422, "start"),
    ("GET", "/api/v2/prices/AAPL/history?start=2012-02-01&end=2012-01-01", None, 422, "after"),
    ("GET", "/api/v2/prices/AAPL/history?period=1y&start=2012-02-01", None, 422, "period"),
    ("GET", "/api/v2/symbols?category=stonks", None, 422, "sector_etf"),
    ("POST", "/api/v2/symbols", {"symbols": ["APPL"]}, 404, "AAPL"),
    ("GET", "/nothing/here", None, 404, "not_found"),
    ("POST", "/api/scheduler/jobs/bars.dayly/run", None, 404, "bars.daily"),
    ("GET", "/api/v2/coverage/NOPE", None, 404, "symbol_unknown"),
    ("DELETE", "/api/v2/prices/AAPL/import", None, 404, "not_imported"),
    ("DELETE", "/api/v2/prices/AAPL/import?interval=7d", None, 422, "interval"),
    ("GET", "/api/v2/market-price/current/NOPE", None, 404, "symbol_unknown"),
    ("POST", "/api/v2/market-price/batch/current", {"symbols": []}, 422, "at least one"),
    ("GET", "/api/database/query-stats?limit=101", None, 422, "100"),
    ("PATCH", "/api/v2/symbols", None, 405, "method_not_allowed"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "url", "body", "shape"), ANSWERS)
async def test_answer_has_its_documented_shape(
    client: httpx.AsyncClient, method: str, url: str, body: Any, shape: type[BaseModel]
) -> None:
    answer = await client.request(method, url, json=body)

    assert answer.status_code == 200, answer.text
    shape.model_validate_json(answer.content)
    assert "NaN" not in answer.text
    assert answer.headers["x-request-id"]
    assert answer.headers["cache-control"]


@pytest.mark.parametrize(("method", "url", "body", "status", "says"), ERRORS)
async def test_error_names_what_to_do(
    client: httpx.AsyncClient, method: str, url: str, body: Any, status: int, says: str
) -> None:
    answer = await client.request(method, url, json=body)

    assert answer.status_code == status, answer.text
    assert says in answer.text
    assert "Traceback" not in answer.text
    assert ".py" not in answer.text
    detail = answer.json()["detail"]
    if status == 422:
        assert isinstance(detail, list)
    else:
        schemas.ErrorDetail.model_validate(detail)


async def test_a_body_that_is_no_json_is_422(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        f"{TA}/batch/indicators", content=b"{", headers={"content-type": "application/json"}
    )

    assert answer.status_code == 422


async def test_a_body_is_bounded_whether_it_says_its_length_or_not(
    client: httpx.AsyncClient,
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b'["'
        for _ in range(30):
            yield b"A" * 2**16
        yield b'"]'

    headers = {"content-type": "application/json"}
    url = f"{TA}/batch/indicators"
    said = await client.post(url, content=b"[" + b" " * 2**20 + b"]", headers=headers)
    unsaid = await client.post(url, content=chunks(), headers=headers)

    assert said.status_code == 413
    assert unsaid.status_code == 413
    assert said.headers["x-request-id"]


@pytest.mark.parametrize("symbol", SYMBOLS)
async def test_values_equal_talib_on_the_closed_bars_of_the_same_version(
    client: httpx.AsyncClient, symbol: str
) -> None:
    history = (await client.get(f"/api/v2/prices/{symbol}/history?period=max")).json()
    answer = (await client.get(f"{TA}/indicators/{symbol}?period=1y")).json()
    high, low, close = (np.array(history[name], float) for name in ("high", "low", "close"))

    def last(values: Any) -> float | None:
        return None if np.isnan(values[-1]) else float(values[-1])

    macd = talib.MACD(close)
    upper, middle, lower = talib.BBANDS(close, 20)
    k, d = talib.STOCHF(high, low, close, 14, 3)
    rsi = talib.RSI(close)
    expected: dict[str, dict[str, float | None]] = {
        "sma": {str(n): last(talib.SMA(close, n)) for n in (5, 10, 20, 50, 200)},
        "ema": {str(n): last(talib.EMA(close, n)) for n in (12, 26)},
        "rsi": {"current": last(rsi), "previous": last(rsi[:-1])},
        "macd": dict(zip(("macd", "signal", "histogram"), map(last, macd), strict=True)),
        "bollinger": {"upper": last(upper), "middle": last(middle), "lower": last(lower)},
        "stochastic": {"k_percent": last(k), "d_percent": last(d)},
    }
    assert answer["data_version"] == history["data_version"]
    assert list(answer["indicators"]) == list(expected)
    for name, values in expected.items():
        for field, value in values.items():
            got = answer["indicators"][name][field]
            assert got == (None if value is None else pytest.approx(value, rel=1e-9)), name


async def test_period_sets_what_is_reported_not_what_is_computed(
    client: httpx.AsyncClient,
) -> None:
    short = (await client.get(f"{TA}/indicators/AAPL?period=1mo")).json()
    long = (await client.get(f"{TA}/indicators/AAPL?period=max")).json()

    assert short["indicators"] == long["indicators"]
    assert (short["data_points"], long["data_points"]) == (22, 3_145)


async def test_the_open_bar_counts_only_when_asked_and_is_never_kept(
    client: httpx.AsyncClient, local: LocalService
) -> None:
    closed = (await client.get("/api/v2/prices/AAPL/history?period=5d")).json()
    answer = await client.get("/api/v2/prices/AAPL/history?period=5d&open_bar=true")

    assert closed["sessions"][-1] == "2012-08-28"
    assert answer.json()["sessions"][-1] == "2012-08-29"
    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers


async def test_a_batch_is_one_call_whatever_the_number_of_symbols(
    client: httpx.AsyncClient, local: LocalService
) -> None:
    await client.post(f"{TA}/batch/indicators", json={"symbols": list(SYMBOLS)})

    assert local.indicators.calls == ["comprehensive"]


async def test_an_answer_is_made_once_until_the_version_changes(
    client: httpx.AsyncClient, local: LocalService
) -> None:
    url = f"{TA}/indicators/AAPL?period=1y"
    first = await client.get(url)
    again = await client.get(url)
    same = await client.get(url, headers={"if-none-match": first.headers["etag"]})
    local.play(60)
    later = await client.get(url, headers={"if-none-match": first.headers["etag"]})

    assert again.content == first.content
    assert local.indicators.calls == ["indicators", "indicators"]
    assert (same.status_code, same.content) == (304, b"")
    assert later.status_code == 200
    assert later.json()["data_version"] != first.json()["data_version"]


async def test_long_answers_are_zipped_for_those_who_ask(client: httpx.AsyncClient) -> None:
    url = "/api/v2/prices/AAPL/history?period=max"
    plain = await client.get(url, headers={"accept-encoding": "identity"})
    zipped = await client.get(url, headers={"accept-encoding": "gzip"})

    assert zipped.headers["content-encoding"] == "gzip"
    assert int(zipped.headers["content-length"]) < len(plain.content) / 2
    assert zipped.content == plain.content


async def test_unknown_query_parameters_are_ignored(client: httpx.AsyncClient) -> None:
    answer = await client.get(f"{TA}/indicators/AAPL?utm_source=mail")

    assert answer.status_code == 200


async def test_a_request_id_is_kept_if_it_is_safe_to_log(client: httpx.AsyncClient) -> None:
    given = await client.get("/health/live", headers={"x-request-id": "desk-17"})
    unsafe = await client.get("/health/live", headers={"x-request-id": 'a" onload="x'})

    assert given.headers["x-request-id"] == "desk-17"
    assert "onload" not in unsafe.headers["x-request-id"]


async def test_the_monitored_set_changes_at_run_time(client: httpx.AsyncClient) -> None:
    removed = await client.request("DELETE", "/api/v2/symbols?symbols=AAPL,IBM")
    monitored = (await client.get(f"{TA}/prices/monitor")).json()
    added = await client.post("/api/v2/symbols", json={"symbols": ["aapl"]})

    assert "AAPL" not in removed.json()["monitored"]
    assert set(monitored["results"]) == {"GOOGL", "META", "MSFT", "^GSPC", "^IXIC"}
    assert "AAPL" in added.json()["monitored"]


async def test_metrics_are_prometheus_text_that_counts_requests(
    client: httpx.AsyncClient,
) -> None:
    await client.get("/health/live")
    text = (await client.get("/metrics")).text

    assert 'finstage_http_requests_total{method="GET",route="/health/live",status="200"}' in text
    assert "# TYPE finstage_system_memory_percent gauge" in text


async def test_pages_and_documentation_need_nothing_from_elsewhere(
    client: httpx.AsyncClient,
) -> None:
    for url in ("/", "/docs", "/assets/home.js", "/assets/finstage.css", "/openapi.json"):
        answer = await client.get(url)
        assert answer.status_code == 200, url
        assert "cdn." not in answer.text
    assert "default-src 'self'" in (await client.get("/")).headers["content-security-policy"]


async def test_a_listed_page_may_ask_with_a_key_and_reads_why_not(tmp_path: Path) -> None:
    local = LocalService(
        tmp_path,
        api_keys="bot:0123456789",
        key_for_reads=True,
        cors_origins="https://desk.example",
    )
    origin = {"origin": "https://desk.example"}
    asks = {"access-control-request-method": "GET", "access-control-request-headers": "x-api-key"}
    transport = httpx.ASGITransport(local.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as http:
        preflight = await http.options("/api/v2/symbols", headers=origin | asks)
        without = await http.get("/api/v2/symbols", headers=origin)
        with_key = await http.get("/api/v2/symbols", headers=origin | {"x-api-key": "0123456789"})

    assert (preflight.status_code, without.status_code, with_key.status_code) == (200, 401, 200)
    for answer in (preflight, without, with_key):
        assert answer.headers["access-control-allow-origin"] == "https://desk.example"


async def test_an_answer_that_many_wait_for_is_kept_once(
    client: httpx.AsyncClient, local: LocalService
) -> None:
    asked = (client.get(f"{TA}/indicators/AAPL?period=5y") for _ in range(20))
    answers = await asyncio.gather(*asked)

    assert {answer.status_code for answer in answers} == {200}
    assert sum(stats.sets for stats in local.near.stats()) == 1


async def test_an_interval_that_the_source_has_not_is_refused_with_prices_too(
    client: httpx.AsyncClient,
) -> None:
    url = "/api/v2/technical-analysis/prices/batch?symbols=AAPL&include_history=true"
    refused = await client.get(f"{url}&interval=2m")
    mixed = await client.get(url.replace("AAPL", "AAPL,APPL"))

    assert refused.status_code == 422, refused.text
    assert mixed.json()["results"]["AAPL"]["history"]["close"]
    assert mixed.json()["results"]["APPL"]["error"]["code"] == "symbol_unknown"


async def test_an_unknown_symbol_is_told_at_its_place_with_history_as_without(
    client: httpx.AsyncClient,
) -> None:
    url = f"{TA}/prices/batch?symbols=NOPE.X"
    plain, with_bars = await client.get(url), await client.get(f"{url}&include_history=true")

    assert plain.status_code == with_bars.status_code == 200, with_bars.text
    for answer in (plain, with_bars):
        assert answer.json()["results"]["NOPE.X"]["error"]["code"] == "symbol_unknown"


async def test_answers_on_bars_name_who_has_those_and_actions_the_source_alone(
    client: httpx.AsyncClient, local: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_interval = {"1d": "replay+import", "1wk": "replay"}

    async def sources(symbols: list[str], interval: str = "1d") -> dict[str, str]:
        return {s: "import" if s == "IBM" else by_interval[interval] for s in symbols}

    monkeypatch.setattr(local.feed, "sources", sources)
    said: dict[str, list[str]] = {}
    for interval in ("1d", "1wk"):
        screen = {"expression": "close > 0", "symbols": ["AAPL"], "interval": interval}
        answers = [
            await client.post(f"{TA}/screen", json=screen),
            await client.get(f"{TA}/ranking?by=close&symbols=AAPL&interval={interval}"),
            await client.get(f"{TA}/correlation?symbols=AAPL,MSFT&interval={interval}"),
            await client.get(f"{TA}/signals/AAPL?last=5000&interval={interval}"),
        ]
        said[interval] = [answer.json()["source"] for answer in answers]
    actions = [
        (await client.get(f"/api/v2/actions/{s}")).json()["source"] for s in ("AAPL", "IBM")
    ]

    assert said == {interval: [name] * 4 for interval, name in by_interval.items()}
    assert actions == ["replay", "import"]
