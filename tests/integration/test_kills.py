"""Every actor can be killed at any moment: callers recover, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import os
import signal

import httpx
import orjson
import pytest
import websockets

from tests.service import Service, wait_until

TA = "/api/v2/technical-analysis"
RECOVERED_WITHIN_S = 5.0


def pid_of(http: httpx.Client, part: str) -> int:
    checks = http.get("/health/ready").json()["checks"]
    return int(checks[part]["detail"].removeprefix("pid "))


def kill(http: httpx.Client, part: str) -> None:
    """Kill an actor's process and wait until another one answers in its place."""
    pid = pid_of(http, part)
    os.kill(pid, signal.SIGKILL)

    def replaced() -> bool:
        answer = http.get("/health/ready")
        return answer.status_code == 200 and f"pid {pid}" not in answer.text

    wait_until(replaced, RECOVERED_WITHIN_S, f"{part} after kill -9")


def price_time(http: httpx.Client) -> str:
    return str(http.get("/api/v2/async/symbols/AAPL/price").json()["timestamp"])


def test_the_feed_goes_on_where_it_should_be(http: httpx.Client, service: Service) -> None:
    # Given a monitored set that was changed and acknowledged, and a price
    removed = http.request("DELETE", "/api/v2/symbols?symbols=META").json()["monitored"]
    before = price_time(http)

    # When the feed dies
    kill(http, "feed")

    # Then the change stands, and time went on instead of starting over
    monitored = http.get(f"{TA}/prices/monitor").json()["results"]
    assert set(monitored) == set(removed)
    wait_until(lambda: price_time(http) > before, RECOVERED_WITHIN_S, "the next price")
    version = http.get("/api/v2/async/symbols/AAPL/price").json()["data_version"]
    assert version.startswith(f"replay-{int(service.state.started_at_s)}-0-")
    http.post("/api/v2/symbols", json={"symbols": ["META"]})


def test_indicators_answer_the_same_after_a_restart(http: httpx.Client) -> None:
    def ask() -> dict[str, object]:
        answer: dict[str, object] = http.get(f"{TA}/indicators/IBM?open_bar=true").json()
        return answer

    before = http.get("/api/v2/prices/IBM/history?period=max&adjusted=false").json()
    kill(http, "indicators")
    after = http.get("/api/v2/prices/IBM/history?period=max&adjusted=false&x=1").json()

    assert ask()["symbol"] == "IBM"
    count = len(before["close"])
    assert after["close"][:count] == before["close"]


def test_a_request_in_flight_waits_for_the_restart(http: httpx.Client) -> None:
    os.kill(pid_of(http, "indicators"), signal.SIGKILL)

    answer = http.get(f"{TA}/indicators/MSFT?open_bar=true")

    assert answer.status_code in (200, 503), answer.text
    if answer.status_code == 503:  # the restart took longer than a caller waits
        assert answer.json()["detail"]["retryable"] is True
        assert answer.headers["retry-after"]
    wait_until(
        lambda: http.get("/health/ready").status_code == 200, RECOVERED_WITHIN_S, "ready again"
    )


async def test_sockets_are_told_when_the_hub_restarted(
    http: httpx.Client, service: Service
) -> None:
    url = service.url.replace("http", "ws") + "/ws/realtime"
    async with asyncio.timeout(60), websockets.connect(url) as socket:
        # Given a socket that follows one symbol
        await socket.send('{"action":"subscribe","type":"prices","symbols":["AAPL"]}')
        await socket.recv()
        answer = orjson.loads(await socket.recv())

        # When the hub dies
        await asyncio.to_thread(kill, http, "hub")

        # Then the socket hears of it, with a snapshot, and then of new values
        told = None
        async for text in socket:
            message = orjson.loads(text)
            if message.get("action") == "snapshot":
                told = message
            elif told is not None and message["type"] == "price_update":
                break
        assert told is not None
        assert told["recovered"] is False
        assert told["epoch"] != answer["epoch"]
        assert message["epoch"] == told["epoch"]
        assert message["offset"] > told["offset"]


async def test_live_values_go_on_after_the_indicators_restarted(
    http: httpx.Client, service: Service
) -> None:
    url = service.url.replace("http", "ws") + "/ws/realtime"
    async with asyncio.timeout(120), websockets.connect(url) as socket:
        # Given a socket that takes live values
        await socket.recv()
        ask = {"action": "subscribe", "type": "technical_analysis", "symbols": ["IBM"]}
        await socket.send(orjson.dumps(ask | {"indicators": "ema(9)"}).decode())
        while orjson.loads(await socket.recv()).get("type") != "technical_analysis_update":
            pass

        # When the indicators die, and with them everything that is live
        await asyncio.to_thread(kill, http, "indicators")
        async with websockets.connect(url) as other:
            after = orjson.loads(await other.recv())["offset"]

        # Then the replica says again what it wants, and values come, whole ones
        async for text in socket:
            message = orjson.loads(text)
            if message["type"] == "technical_analysis_update" and message["offset"] > after:
                break
    assert message["ready"]["ema(9)"] is True
    assert message["values"]["ema(9)"]["ema"] > 0


def test_cached_answers_still_change_after_the_hub_restarted(http: httpx.Client) -> None:
    url = f"{TA}/indicators/GOOGL?period=1y"
    kill(http, "hub")
    version = http.get(url).json()["data_version"]

    wait_until(
        lambda: http.get(url).json()["data_version"] != version, 25, "a version after the restart"
    )


@pytest.mark.parametrize("part", ["cache"])
def test_metrics_come_back_by_themselves(http: httpx.Client, part: str) -> None:
    kill(http, part)

    wait_until(
        lambda: 'process="feed-' in http.get("/metrics").text, RECOVERED_WITHIN_S, "metrics again"
    )
