"""The service on the simulated market: it ticks at any hour, and a gap is repaired in sight."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import websockets

from infra.sources.base import Tick
from infra.sources.recorded.recording import Happened, read_recording
from tests.service import Service, run_finstage, running, stop, wait_until


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {
        "source": "simulated",
        "simulated_symbols": 20,
        "simulated_ticks_per_s": 5,
        "simulated_faults": "gap:SIM0002@20+10",
    }
    with running(tmp_path_factory.mktemp("simulated"), **settings) as service:
        yield service


@pytest.fixture
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client:
        yield client


def get(http: httpx.Client, url: str, **query: str) -> dict[str, Any]:
    answer = http.get(url, params=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_it_says_that_its_prices_are_made(http: httpx.Client) -> None:
    assert get(http, "/api/v2/symbols")["pagination"]["total"] == 20
    quote = get(http, "/api/v2/quotes", symbols="SIM0001")["quotes"]["SIM0001"]
    assert (quote["source"], quote["synthetic"], quote["market_status"]) == (
        "simulated",
        True,
        "open",
    )
    assert http.get("/api/v2/news/SIM0001").status_code == 501


def test_every_interval_has_bars_and_indicators(http: httpx.Client) -> None:
    for interval in ("1m", "5m", "1h", "1d", "1wk"):
        history = get(http, "/api/v2/prices/SIM0001/history", interval=interval, period="max")
        assert history["data_points"] > 20, interval
        indicators = get(http, "/api/v2/technical-analysis/indicators/SIM0001", interval=interval)
        assert indicators["indicators"]["sma"]["20"] is not None, interval


def test_history_comes_as_csv_parquet_and_arrow(http: httpx.Client) -> None:
    url = "/api/v2/prices/SIM0001/history"
    csv = http.get(url, params={"period": "5d"}, headers={"accept": "text/csv"})
    assert csv.text.splitlines()[0] == '"opened_at","open","high","low","close","volume"'
    assert len(csv.text.splitlines()) == 6
    assert http.get(url, params={"format": "parquet"}).content[:4] == b"PAR1"
    arrow = http.get(url, params={"format": "arrow"})
    assert arrow.headers["content-type"] == "application/vnd.apache.arrow.stream"
    assert arrow.headers["x-source"] == "simulated"
    # ... and who asks for JSON under the same address still gets it:
    assert http.get(url, params={"period": "5d"}).json()["data_points"] == 5


async def test_minute_bars_are_streamed_and_after_revisions_equal_the_history(
    service: Service,
) -> None:
    url = service.url.replace("http", "ws") + "/ws/realtime"
    told: dict[str, dict[str, Any]] = {}
    async with asyncio.timeout(5 * 90):
        async for socket in websockets.connect(url):  # again, where a young ingress answers 503
            ask = {"action": "subscribe", "type": "bars", "symbols": ["SIM0002"]}
            await socket.send(orjson.dumps(ask).decode())
            # The first one may have begun before the service did.
            while not (len(told) > 1 and await _is_in_history(service, list(told.values())[-1])):
                body = orjson.loads(await socket.recv())
                if body["type"] == "bar_update":
                    told[body["timestamp"]] = body
            await socket.close()
            break


async def _is_in_history(service: Service, bar: dict[str, Any]) -> bool:
    query = {"interval": "1m", "period": "5d"}
    async with httpx.AsyncClient(base_url=service.url, timeout=60, trust_env=False) as client:
        answer = await client.get("/api/v2/prices/SIM0002/history", params=query)
    history = answer.json()
    if int(_unix_s(bar["timestamp"])) not in history["timestamps"]:
        return False  # bars are asked for every 15 s
    row = history["timestamps"].index(int(_unix_s(bar["timestamp"])))
    names = ("open", "high", "low", "close")
    return all(bar[name] == pytest.approx(history[name][row], rel=1e-9) for name in names)


def _unix_s(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()


def test_what_was_recorded_is_played(service: Service, tmp_path: Path) -> None:
    """The last test here: the service stops, as one Ray runs at a time."""
    file = tmp_path / "made.ndjson.gz"
    arguments = ("record", "--out", str(file), "--symbols", "SIM0001,SIM0003", "--seconds", "6")
    unknown = run_finstage(
        "record", "--out", str(file), "--symbols", "SIM1", env=service.environment
    )
    recorded = run_finstage(*arguments, env=service.environment)
    again = run_finstage(*arguments, env=service.environment)
    stop(service)

    assert recorded.returncode == 0, recorded.stderr
    assert "events of 2 symbols in" in recorded.stdout
    assert (again.returncode, unknown.returncode) == (2, 2)
    assert "is there already" in again.stderr
    assert "SIM0001" in unknown.stderr
    lines = [line for line in read_recording(file) if isinstance(line, Happened)]
    assert lines[-1].at_s > 4
    last = {e.quote.symbol: e.quote.price for x in lines for e in x.events if isinstance(e, Tick)}
    played = {"source": f"replay:{file}", "recording_speed": 10}
    with (
        running(tmp_path / "played", **played) as player,
        httpx.Client(base_url=player.url, timeout=60, trust_env=False) as http,
    ):
        quotes: dict[str, Any] = {}

        def is_over() -> bool:
            quotes.update(get(http, "/api/v2/quotes", symbols="SIM0001,SIM0003")["quotes"])
            return {s: q["current_price"] for s, q in quotes.items()} == last

        wait_until(is_over, 10, "the recording is played to its end")
        assert {(q["source"], q["synthetic"]) for q in quotes.values()} == {("recording", True)}
        analysis = get(http, "/api/v2/technical-analysis/indicators/SIM0003")
        assert analysis["indicators"]["sma"]["200"] is not None
        assert "at 10 x" in player.output
