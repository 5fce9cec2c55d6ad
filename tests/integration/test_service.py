"""The running service, asked as its users ask it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import talib
import websockets

from tests.service import Service, wait_until

TA = "/api/v2/technical-analysis"


def get(http: httpx.Client, url: str) -> httpx.Response:
    answer = http.get(url)
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.parametrize(
    "url",
    [
        f"{TA}/indicators/AAPL?period=1y",
        f"{TA}/prices/monitor",
        f"{TA}/prices/batch?symbols=AAPL,^GSPC&include_history=true",
        "/api/v2/prices/AAPL/history?period=1y",
        "/api/v2/async/symbols/AAPL/price",
        "/api/v2/async/symbols/batch?symbols=AAPL,IBM",
        "/api/v2/async/technical/analysis/AAPL?period=6mo",
        "/api/v2/symbols",
        "/health/live",
        "/health/ready",
        "/docs",
        "/openapi.json",
        "/",
    ],
)
def test_each_route_answers(http: httpx.Client, url: str) -> None:
    answer = get(http, url)

    assert answer.headers["x-request-id"]
    if answer.headers["content-type"] == "application/json" and "timestamp" in answer.json():
        assert answer.json()["timestamp"].endswith("+00:00")


def test_values_equal_talib_on_the_bars_of_the_same_version(http: httpx.Client) -> None:
    def pair() -> tuple[dict[str, object], dict[str, object]]:
        history = get(http, "/api/v2/prices/AAPL/history?period=max").json()
        return history, get(http, f"{TA}/indicators/AAPL?period=1y").json()

    history, answer = pair()
    if history["data_version"] != answer["data_version"]:
        history, answer = pair()  # a session ended in between; the next one has just begun
    close = np.array(history["close"], float)

    assert history["data_version"] == answer["data_version"]
    values = answer["indicators"]
    assert isinstance(values, dict)
    assert values["rsi"]["current"] == pytest.approx(talib.RSI(close)[-1], rel=1e-9)
    assert values["ema"]["26"] == pytest.approx(talib.EMA(close, 26)[-1], rel=1e-9)
    assert values["sma"]["200"] == pytest.approx(talib.SMA(close, 200)[-1], rel=1e-9)
    assert values["macd"]["signal"] == pytest.approx(talib.MACD(close)[1][-1], rel=1e-9)


def test_a_cached_answer_changes_when_a_session_ends(http: httpx.Client) -> None:
    url = f"{TA}/indicators/AAPL?period=1y"
    first = get(http, url)

    def changed() -> bool:
        return http.get(url, headers={"if-none-match": first.headers["etag"]}).status_code == 200

    wait_until(changed, 25, "a new version of a cached answer")
    later = get(http, url).json()
    price = get(http, "/api/v2/async/symbols/AAPL/price").json()

    assert later["session"] > first.json()["session"]
    assert later["session"] < price["timestamp"][:10]


def test_a_request_id_reaches_the_actors(http: httpx.Client, service: Service) -> None:
    request_id = f"trace-{time.monotonic_ns()}"
    http.get(f"{TA}/indicators/NOSUCH?open_bar=true", headers={"x-request-id": request_id})
    http.get(f"{TA}/indicators/AAPL?open_bar=true", headers={"x-request-id": request_id})

    def seen() -> set[str]:
        lines = (
            orjson.loads(line)
            for path in service.settings.log_dir.glob("*.jsonl")
            for line in path.read_bytes().splitlines()
            if request_id.encode() in line
        )
        return {line["process"] for line in lines}

    wait_until(lambda: seen() >= {"api", "indicators"}, 2, "the request id in both logs")


def test_metrics_sum_all_processes(http: httpx.Client) -> None:
    def complete() -> bool:
        text = http.get("/metrics").text
        roles = ("feed-", "indicators-", "hub-", "cache-", "api-", "stream-")
        return all(f'finstage_process_resident_bytes{{process="{role}' in text for role in roles)

    wait_until(complete, 6, "every process in /metrics")


def servers(service: Service) -> dict[str, str]:
    """Return the state of each server that HAProxy knows, by backend and name."""
    url = f"http://127.0.0.1:{service.state.ports['haproxy_stats']}/stats;csv"
    header, *rows = httpx.get(url, timeout=10, trust_env=False).text.lstrip("# ").splitlines()
    parsed = [dict(zip(header.split(","), row.split(","), strict=False)) for row in rows]
    return {f"{row['pxname']} {row['svname']}": row["status"] for row in parsed}


def test_haproxy_finds_the_replicas_up_and_asks_no_one_else(service: Service) -> None:
    def up() -> bool:
        states = {name: state for name, state in servers(service).items() if "finstage" in name}
        return len(states) >= 4 and all(state.startswith("UP") for state in states.values())

    wait_until(up, 12, "every server up")


def test_a_page_elsewhere_and_another_host_are_refused(http: httpx.Client) -> None:
    foreign = http.post(
        "/api/v2/symbols", json={"symbols": ["AAPL"]}, headers={"origin": "https://evil.example"}
    )
    rebound = http.get(f"{TA}/indicators/AAPL?period=1y", headers={"host": "evil.example"})

    assert (foreign.status_code, rebound.status_code) == (403, 403)


def raw(service: Service, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", service.settings.port), timeout=10) as sock:
        sock.sendall(request)
        sock.settimeout(10)
        answer = b""
        while b"\r\n\r\n" not in answer:
            part = sock.recv(65_536)
            if not part:
                break
            answer += part
    return answer


def test_haproxy_refuses_control_characters_and_long_headers(service: Service) -> None:
    control = raw(service, b"GET /a\x01b HTTP/1.1\r\nhost: localhost\r\n\r\n")
    long = b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 20_000 + b"\r\n\r\n"

    assert control.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
    assert raw(service, long).startswith((b"HTTP/1.0 400", b"HTTP/1.1 400", b"HTTP/1.1 431"))


async def listen(url: str, until: Callable[[dict[str, object]], bool]) -> list[dict[str, object]]:
    heard: list[dict[str, object]] = []
    async with asyncio.timeout(60), websockets.connect(url) as socket_:
        assert socket_.response is not None
        assert "sec-websocket-extensions" not in socket_.response.headers  # deflate is off
        await socket_.send(
            '{"action":"subscribe","type":"prices","symbols":["AAPL","^gspc"],"id":1}'
        )
        async for text in socket_:
            heard.append(orjson.loads(text))
            if until(heard[-1]):
                return heard
    return heard


async def test_a_socket_gets_a_snapshot_and_then_every_next_value(service: Service) -> None:
    url = service.url.replace("http", "ws") + "/ws/realtime"
    updates = 0

    def enough(message: dict[str, object]) -> bool:
        nonlocal updates
        updates += message["type"] == "price_update"
        return updates >= 12

    welcome, answer, *pushed = await listen(url, enough)

    assert welcome["type"] == "system_status"
    assert answer["id"] == 1
    assert answer["subscriptions"] == ["AAPL", "^GSPC"]
    snapshot = answer["snapshot"]
    assert isinstance(snapshot, list)
    assert {item["symbol"] for item in snapshot} == {"AAPL", "^GSPC"}
    offsets = [int(str(message["offset"])) for message in pushed]
    assert offsets == sorted(set(offsets))
    assert offsets[0] > int(str(answer["offset"]))
    assert {message["epoch"] for message in pushed} == {answer["epoch"]}
    for message in pushed:
        assert message["synthetic"] is True
        assert message["source"] == "replay"


async def test_a_socket_is_told_what_was_wrong_and_stays_open(service: Service) -> None:
    url = service.url.replace("http", "ws") + "/ws/realtime"
    bad = [
        "no json",
        "[]",
        '{"action":"fly"}',
        '{"action":"subscribe","type":"prices","symbols":["APPL"]}',
        '{"action":"subscribe","type":"prices","symbols":"AAPL"}',
        '{"action":"subscribe","type":"prices"}',
    ]
    async with asyncio.timeout(30), websockets.connect(url) as socket_:
        await socket_.recv()
        for text in bad:
            await socket_.send(text)
            answer = orjson.loads(await socket_.recv())
            assert answer["type"] == "error", text
            assert answer["message"]
        await socket_.send('{"action":"heartbeat"}')
        assert orjson.loads(await socket_.recv())["message"] == "pong"


async def test_live_values_are_told_with_every_tick(service: Service, http: httpx.Client) -> None:
    url = service.url.replace("http", "ws") + "/ws/realtime"
    request = {
        "action": "subscribe",
        "type": "technical_analysis",
        "symbols": ["AAPL", "IBM"],
        "indicators": "ema(9),atr",
    }
    heard: list[dict[str, Any]] = []
    async with asyncio.timeout(60), websockets.connect(url) as socket_:
        await socket_.recv()
        await socket_.send(orjson.dumps(request).decode())
        answer = orjson.loads(await socket_.recv())
        assert answer["subscriptions"] == ["AAPL:1d", "IBM:1d"]
        async for text in socket_:
            heard.append(orjson.loads(text))
            if len(heard) >= 12 and heard[-1].get("bar", {}).get("closed") is False:
                break
        await socket_.send(orjson.dumps(request | {"indicators": "nope(3)"}).decode())
        while (answer := orjson.loads(await socket_.recv()))["type"] != "error":
            pass
    assert answer["code"] == 109
    assert {h["type"] for h in heard} <= {"technical_analysis_update", "technical_alert"}
    last = [h for h in heard if h["type"] == "technical_analysis_update"][-1]
    assert all(last["ready"].values())
    assert {"ema(9)", "atr(14)", "rsi(14)", "sma(200)"} <= set(last["values"])
    # The value is of the bars that the service tells of, the one under way with this close.
    symbol, day = last["symbol"], last["bar"]["opened_at"][:10]
    query = {"start": "1900-01-01", "end": day}
    path = f"/api/v2/prices/{symbol}/history"
    answer = await asyncio.to_thread(http.get, path, params=query)
    closes = answer.json()["close"]
    wanted = talib.RSI(np.array([*closes, last["bar"]["close"]]), 14)[-1]
    assert last["values"]["rsi(14)"]["rsi"] == pytest.approx(wanted, rel=1e-9)


def test_live_values_are_there_for_who_asks(http: httpx.Client) -> None:
    path = "/api/v2/technical-analysis/live"
    answer = http.get(f"{path}/MSFT", params={"indicators": "Donchian(10)"})
    assert answer.status_code == 200
    assert answer.json()["ready"]["donchian(10)"] is True
    assert answer.json()["synthetic"] is True
    for query, said in (
        ({"indicators": "cdlengulfing"}, "cdlengulfing"),
        ({"indicators": "sma(1e9)"}, "from 1 to 500"),
        ({"indicators": "vwap"}, "vwap needs an interval under a day"),
        ({"interval": "1wk"}, "1wk"),
    ):
        refused = http.get(f"{path}/MSFT", params=query)
        assert refused.status_code == 422, query
        assert said in refused.text
    assert http.get(f"{path}/NOPE").status_code == 404


async def test_sockets_that_break_leave_nothing_behind(
    service: Service, http: httpx.Client
) -> None:
    url = service.url.replace("http", "ws") + "/ws/realtime"
    every = ",".join(f'"{s}"' for s in ("AAPL", "GOOGL", "IBM", "META", "MSFT"))
    for round_ in range(30):
        sockets = [await websockets.connect(url) for _ in range(5)]
        for number, socket_ in enumerate(sockets):
            for _ in range(number * 3):
                await socket_.send(f'{{"action":"subscribe","type":"prices","symbols":[{every}]}}')
            socket_.transport.abort()  # answers are on their way, and nobody reads them
        assert len(sockets) == 5, round_

    def open_sockets() -> float:
        lines = http.get("/metrics").text.splitlines()
        name = "finstage_websocket_connections{"
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    # In a thread: this loop must run for the aborted sockets' own ends to be closed.
    await asyncio.to_thread(
        wait_until, lambda: open_sockets() == 0, 6, "no socket left in the table"
    )


async def test_a_socket_from_another_page_is_refused(service: Service) -> None:
    url = service.url.replace("http", "ws") + "/ws/realtime"

    with pytest.raises(websockets.InvalidStatus) as caught:
        await websockets.connect(url, origin=websockets.Origin("https://evil.example"))

    assert caught.value.response.status_code == 403


def test_any_indicator_comes_by_name_and_as_a_series(http: httpx.Client) -> None:
    url = f"{TA}/indicators/AAPL?indicators=adx(7),cdlengulfing&series=true&last=300"
    body = get(http, url).json()
    table = get(http, url + "&format=csv").text.splitlines()

    assert len(body["timestamps"]) == len(body["series"]["adx(7)"]["plus_di"]) == 300
    assert table[0].replace('"', "") == (
        "opened_at,adx(7).adx,adx(7).plus_di,adx(7).minus_di,cdlengulfing"
    )
    assert len(table) == 301


def test_a_screen_and_a_ranking_agree_with_the_indicators(http: httpx.Client) -> None:
    body = {"expression": "rsi(14) > 0 and close > 0"}
    screened = http.post(f"{TA}/screen", json=body).json()
    ranked = get(http, f"{TA}/ranking?by=rsi(14)").json()

    values = {m["symbol"]: m["values"]["rsi(14)"] for m in screened["matches"]}
    assert screened["screened_symbols"] >= 7
    assert set(values) >= {"AAPL", "^GSPC"}
    if [item["symbol"] for item in ranked["items"]] == sorted(values, key=lambda s: -values[s]):
        return
    again = http.post(f"{TA}/screen", json=body).json()  # a session may have ended in between
    values = {m["symbol"]: m["values"]["rsi(14)"] for m in again["matches"]}
    ranked = get(http, f"{TA}/ranking?by=rsi(14)").json()
    assert [item["symbol"] for item in ranked["items"]] == sorted(values, key=lambda s: -values[s])
