"""AAPL across its split of 2005-02-28, live: one new scale for everything, and no alarm."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from infra.messages import ACTIONS, DATA, PRICES, Batch, Position
from infra.sources.replay import REPLAYED_SESSIONS, Record, ReplaySource, load_records
from tests.local import STARTED_AT_S, LocalService

SPLIT = date(2005, 2, 28)
SESSION_S = 60.0
TA = "/api/v2/technical-analysis"


def cut_records(sessions_before: int) -> dict[str, Record]:
    """Return AAPL's record, ending so that the split is `sessions_before` sessions into it."""
    record = load_records()["AAPL"]
    days = [record.bars.session(row) for row in range(len(record.bars))]
    end = days.index(SPLIT) - sessions_before + REPLAYED_SESSIONS
    rows = slice(0, end)
    return {"AAPL": Record(record.bars[rows], record.price_step[rows], record.split[rows])}


@pytest.fixture
def local(tmp_path: Path) -> LocalService:
    """Return a service in the session before the split."""
    return LocalService(tmp_path, records=cut_records(1))


async def ask(local: LocalService, url: str) -> dict[str, Any]:
    transport = httpx.ASGITransport(local.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as http:
        answer = await http.get(url)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def news(local: LocalService, since: Position) -> list[tuple[str, dict[str, Any]]]:
    batch: Batch = local.hub.after(since)
    return [(m.topic, orjson.loads(m.payload)) for m in batch.messages]


async def test_everything_is_on_the_new_scale_at_once_and_nothing_alarms(
    local: LocalService,
) -> None:
    local.play(SESSION_S - 1)  # the last minute on the old scale
    before = await ask(local, f"{TA}/prices/monitor?symbols=AAPL")
    old = await ask(local, "/api/v2/prices/AAPL/history?period=max")
    place = local.hub.position

    local.play(2)  # the first tick of 2005-02-28

    after = await ask(local, f"{TA}/prices/monitor?symbols=AAPL")
    new = await ask(local, "/api/v2/prices/AAPL/history?period=max")
    was, is_now = before["results"]["AAPL"], after["results"]["AAPL"]
    # Prices halved, as traded:
    assert is_now["current_price"] == pytest.approx(was["current_price"] / 2, rel=0.05)
    # ... and what they are held against halved with them:
    assert is_now["analysis"]["prev_close"]["base_price"] == pytest.approx(
        was["current_price"] / 2, rel=0.01
    )
    assert is_now["analysis"]["all_time_high"]["base_price"] == pytest.approx(
        was["analysis"]["all_time_high"]["base_price"] / 2, rel=0.05
    )
    assert not [a for a in is_now["alerts"] if a["type"].startswith("price_")]
    # History is rebased whole, under one new version:
    count = len(old["close"])
    assert np.array(new["close"][:count]) == pytest.approx(np.array(old["close"]) / 2)
    assert np.array(new["volume"][:count]) == pytest.approx(np.array(old["volume"]) * 2, abs=1)
    assert new["data_version"] != old["data_version"]
    told = [body["data_version"] for topic, body in news(local, place) if topic == DATA + "AAPL"]
    assert set(told) == {new["data_version"]}


async def test_subscribers_are_told_of_the_split_once_before_the_first_price_on_the_new_scale(
    local: LocalService,
) -> None:
    local.play(SESSION_S - 1)
    place = local.hub.position
    local.play(2)

    told = news(local, place)
    topics = [topic for topic, _ in told]
    assert topics.count(ACTIONS + "AAPL") == 1
    action = dict(told)[ACTIONS + "AAPL"]
    assert (action["kind"], action["value"], action["ex_date"]) == ("split", 2.0, "2005-02-28")
    first_price = topics.index(PRICES + "AAPL")
    assert topics.index(ACTIONS + "AAPL") < first_price
    assert told[first_price][1]["previous_price"] is None  # no jump that never was
    assert abs(told[first_price][1]["change_percent"]) < 5


async def test_indicators_do_not_see_a_fall(local: LocalService) -> None:
    local.play(SESSION_S - 1)
    before = await ask(local, f"{TA}/indicators/AAPL?open_bar=true")
    local.play(SESSION_S)
    after = await ask(local, f"{TA}/indicators/AAPL?open_bar=true")

    assert after["indicators"]["sma"]["20"] == pytest.approx(
        before["indicators"]["sma"]["20"] / 2, rel=0.05
    )
    assert abs(after["indicators"]["rsi"]["current"] - before["indicators"]["rsi"]["current"]) < 15


async def test_actions_name_the_split(local: LocalService) -> None:
    local.play(SESSION_S)

    body = await ask(local, "/api/v2/actions/AAPL")

    splits = [(i["ex_date"], i["value"]) for i in body["items"] if i["kind"] == "split"]
    assert splits == [("2000-06-21", 2.0), ("2005-02-28", 2.0)]


def test_a_session_that_was_slept_through_has_no_late_news(tmp_path: Path) -> None:
    local = LocalService(tmp_path, records=cut_records(1))
    source: ReplaySource = local.source
    last = source.place()
    local.clock.advance(3 * SESSION_S)

    events = source.events_between(last, source.place())

    assert not [event for event in events if type(event).__name__ == "ActionHappened"]
    assert local.clock.time_s() > STARTED_AT_S
