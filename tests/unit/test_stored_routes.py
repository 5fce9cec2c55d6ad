"""Routes over the store: what is missing is told, and while it is away the last answer stands."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import httpx
import pytest

from infra.db.bulk import import_bars
from infra.db.high_records import Record
from infra.db.snapshots import Snapshot
from infra.db.store import Store
from infra.db.url import store_url
from infra.periods import day_ns
from serve.rest.market_price import high_record_summary, price_summary, snapshot_summary
from serve.rest.stored import gaps
from tests.contract.test_store import bars
from tests.local import LocalService

NOW = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)
_SNAPSHOT = Snapshot("AAPL", "replay", "2026-03-03", 100.0, 110.0, 90.0, 1, NOW, NOW)
_RECORD = Record("AAPL", "replay", "high", 120.0, "2026-02-02", "first", NOW, NOW)


def seconds(*days: str) -> list[int]:
    return [day_ns(date.fromisoformat(day)) // 10**9 for day in days]


def test_a_gap_is_a_session_without_a_bar() -> None:
    # Monday 2024-03-04 to Friday; and Good Friday, which is none
    found = gaps("AAPL", seconds("2024-03-04", "2024-03-05", "2024-03-08"))
    holiday = gaps("AAPL", seconds("2024-03-28", "2024-04-01"))

    assert found == {"sessions": 2, "dates": ["2024-03-06", "2024-03-07"]}
    assert holiday == {"sessions": 0, "dates": []}
    assert gaps("AAPL", []) == {"sessions": 0, "dates": []}


def test_of_minutes_whole_sessions_count_and_quiet_minutes_do_not() -> None:
    opens = [
        int(datetime(2024, 3, day, 14, minute, tzinfo=UTC).timestamp())
        for day in (4, 6)
        for minute in (31, 45)
    ]

    assert gaps("AAPL", opens) == {"sessions": 1, "dates": ["2024-03-05"]}


def test_summaries_say_what_is_there_and_what_is_not() -> None:
    price = {
        "symbol": "AAPL", "current_price": 108.0, "previous_close": 100.0,
        "timestamp": "2026-03-04T15:30:00+00:00",
    }  # fmt: skip

    whole = price_summary(price, _SNAPSHOT, _RECORD)
    bare = price_summary(price | {"previous_close": None}, None, None)

    assert whole["change_from_close"] == {"amount": 8.0, "percent": 8.0}
    assert whole["change_from_high"] == {"amount": -12.0, "percent": -10.0}
    assert (bare["change_from_close"], bare["all_time_high"]) == (None, None)
    assert snapshot_summary("AAPL", _SNAPSHOT)["has_complete_data"] is True
    assert snapshot_summary("AAPL", None)["has_complete_data"] is False
    assert (
        high_record_summary("AAPL", _RECORD, date(2026, 3, 4), "replay")["days_since_high"] == 30
    )
    assert high_record_summary("AAPL", None, date(2026, 3, 4), "replay")["has_record"] is False


@pytest.fixture
async def client(local: LocalService) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(local.app)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")


async def test_while_the_store_is_away_its_last_word_is_given_as_stale(
    local: LocalService, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    store = Store(store_url("", tmp_path))
    await store.migrate()
    await import_bars(store, "OWN", "1d", bars(5))
    await store.close()
    first = (await client.get("/api/v2/coverage/OWN")).json()

    local.store.is_away = True
    again = (await client.get("/api/v2/coverage/OWN")).json()
    unread = await client.get("/api/v2/coverage/AAPL")
    ready = await client.get("/health/ready")
    unsaved = await client.post(
        "/api/v2/technical-analysis/analysis/comprehensive",
        json={"symbols": ["AAPL"], "save_results": True},
    )

    assert (first["stale"], again["stale"]) == (False, True)
    assert again["intervals"] == first["intervals"]
    assert (unread.status_code, unread.json()["detail"]["code"]) == (503, "store_unavailable")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert ready.json()["checks"]["store"]["status"] == "away"
    assert unsaved.status_code == 503
    local.store.is_away = False
    assert (await client.get("/api/v2/coverage/OWN")).json()["stale"] is False
