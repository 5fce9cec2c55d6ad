"""The stream as programs use it: recovery, server-sent events, the routes beside the sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from typing import Any

import httpx
import msgpack
import orjson
import psutil
import pytest
import websockets

import finstage
from tests.service import Service, wait_until


def ws_url(service: Service) -> str:
    return service.url.replace("http", "ws") + "/ws/realtime"


def stream_pid(http: httpx.Client) -> int:
    """Return the process that holds sockets."""
    found: list[int] = []

    def told() -> bool:
        text = http.get("/metrics").text
        found.extend(int(pid) for pid in re.findall(r'connections{process="stream-(\d+)"}', text))
        return bool(found)

    wait_until(told, 10, "the stream's metrics")
    return found[-1]


class Chain:
    """Finds holes and doubles: each price says what the one before it was."""

    def __init__(self) -> None:
        self.last: dict[str, float] = {}
        self.count = 0

    def take(self, update: dict[str, Any]) -> None:
        symbol = update["symbol"]
        before = self.last.get(symbol)
        if before is not None and update["previous_price"] is not None:
            assert update["previous_price"] == before, update
        self.last[symbol] = update["current_price"]
        self.count += 1


async def test_a_client_misses_nothing_when_the_replica_dies(
    service: Service, http: httpx.Client
) -> None:
    stream, chain = finstage.StreamClient(service.url), Chain()
    killed = await asyncio.to_thread(stream_pid, http)
    updates = stream.subscribe(["AAPL", "IBM"], mode="all")
    async with asyncio.timeout(120), contextlib.aclosing(updates):
        async for update in updates:
            if update["type"] != "price_update":
                continue
            chain.take(update)
            if chain.count == 20:
                os.kill(killed, signal.SIGKILL)
            if stream.drops and chain.count >= 60:
                break

    assert stream.drops >= 1
    assert stream.resyncs == 0

    def answers() -> bool:
        return http.get("/ws/status").status_code == 200

    await asyncio.to_thread(wait_until, answers, 10, "the routes again")


def haproxy_pid(service: Service) -> int:
    """Return the newest of HAProxy's processes, which takes new connections."""
    found: list[tuple[float, int]] = []
    for process in psutil.Process(service.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.name() == "haproxy":
                found.append((process.create_time(), process.pid))
    return max(found)[1]


async def test_many_clients_have_the_same_when_replica_and_proxy_were_killed(
    service: Service, http: httpx.Client
) -> None:
    clients = [finstage.StreamClient(service.url) for _ in range(20)]
    offsets: list[list[int]] = [[] for _ in clients]
    enough = 200

    async def follow(client: finstage.StreamClient, seen: list[int]) -> None:
        updates = client.subscribe(["AAPL", "MSFT"], mode="all")
        async with contextlib.aclosing(updates):
            async for update in updates:
                if update["type"] == "price_update":
                    seen.append(update["offset"])
                if len(seen) >= enough and client.drops >= 2:
                    return

    def have_come(count: int) -> None:
        wait_until(lambda: len(offsets[0]) > count, 30, f"{count} ticks")

    async def killed() -> None:
        await asyncio.to_thread(have_come, 30)
        os.kill(await asyncio.to_thread(stream_pid, http), signal.SIGKILL)
        await asyncio.to_thread(have_come, 100)
        os.kill(haproxy_pid(service), signal.SIGKILL)

    async with asyncio.timeout(240):
        work = [follow(c, seen) for c, seen in zip(clients, offsets, strict=True)]
        await asyncio.gather(killed(), *work)

    assert sum(client.resyncs for client in clients) == 0
    first = max(seen[2] for seen in offsets)  # after the snapshots
    last = min(seen[-1] for seen in offsets)
    every = {offset for seen in offsets for offset in seen if first <= offset <= last}
    assert len(every) > enough / 2
    for seen in offsets:
        assert seen[2:] == sorted(set(seen[2:])), "in order, and nothing twice"
        assert {offset for offset in seen if first <= offset <= last} == every


async def test_a_client_is_in_step_again_after_the_hub_died(
    service: Service, http: httpx.Client
) -> None:
    stream = finstage.StreamClient(service.url)
    ready = (await asyncio.to_thread(http.get, "/health/ready")).json()
    pid = int(ready["checks"]["hub"]["detail"].removeprefix("pid "))
    count = after = 0
    last: dict[str, Any] = {}
    updates = stream.subscribe("AAPL")
    async with asyncio.timeout(120), contextlib.aclosing(updates):
        async for update in updates:
            count += 1
            if count == 5:
                os.kill(pid, signal.SIGKILL)
            after += stream.resyncs > 0
            if after >= 5:
                last = update
                break
    assert last["symbol"] == "AAPL"
    assert stream.resyncs == 1


async def test_what_cannot_be_is_refused_for_good(service: Service) -> None:
    stream = finstage.StreamClient(service.url)
    with pytest.raises(finstage.StreamRefused, match="NOPE") as caught:
        async for _ in stream.subscribe("NOPE"):
            pass
    assert caught.value.number == 105
    with pytest.raises(finstage.StreamRefused, match="mode must be"):
        async for _ in stream.subscribe("AAPL", mode="some"):
            pass


async def test_a_flood_of_messages_is_ended_and_hurts_nobody(service: Service) -> None:
    async with asyncio.timeout(60):
        other = await websockets.connect(ws_url(service))
        await other.recv()
        flood = await websockets.connect(ws_url(service))
        with contextlib.suppress(websockets.ConnectionClosed):
            for _ in range(2_000):
                await flood.send('{"action":"heartbeat"}')
            async for _ in flood:  # what it was answered before
                pass
        assert flood.close_code == 4501
        await other.send('{"action":"heartbeat","id":1}')
        assert orjson.loads(await other.recv())["message"] == "pong"
        await other.close()


async def test_message_pack_and_fields(service: Service) -> None:
    request = {
        "action": "subscribe",
        "type": "prices",
        "symbols": ["*"],
        "encoding": "msgpack",
        "fields": ["current_price"],
    }
    async with asyncio.timeout(60), websockets.connect(ws_url(service)) as socket:
        await socket.recv()
        await socket.send(msgpack.packb(request))
        answer = msgpack.unpackb(await socket.recv())
        assert len(answer["snapshot"]) == len(answer["subscriptions"]) or answer["snapshot"]
        update = msgpack.unpackb(await socket.recv())
    assert set(update) == {"epoch", "offset", "type", "symbol", "current_price"}


# -- server-sent events ------------------------------------------------------------------------


async def events(service: Service, count: int, query: str, **headers: str) -> list[dict[str, str]]:
    """Return the first events of a stream, as fields by name."""
    found: list[dict[str, str]] = []
    event: dict[str, str] = {}
    async with (
        asyncio.timeout(60),
        httpx.AsyncClient(timeout=30, trust_env=False) as client,
        client.stream("GET", f"{service.url}/ws/sse?{query}", headers=headers) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line:
                name, _, value = line.partition(": ")
                event[name] = value
            elif event:
                found.append(event)
                event = {}
            if len(found) == count:
                break
    return found


async def test_events_are_the_same_messages_and_recover_by_their_id(service: Service) -> None:
    first, *rest = await events(service, 6, "symbols=AAPL&mode=all")
    assert first["event"] == "subscription"
    answer = orjson.loads(first["data"])
    assert answer["subscriptions"] == ["AAPL"]
    updates = [orjson.loads(event["data"]) for event in rest]
    assert [e["id"] for e in rest] == [f"{u['epoch']}:{u['offset']}" for u in updates]

    again = await events(service, 4, "symbols=AAPL&mode=all", **{"last-event-id": rest[1]["id"]})

    assert orjson.loads(again[0]["data"])["recovered"] is True
    assert [e["id"] for e in again[1:]] == [e["id"] for e in rest[2:]][:3]


async def test_a_refused_stream_is_a_plain_answer(service: Service, http: httpx.Client) -> None:
    for query, status in (
        ("symbols=NOPE", 404),
        ("symbols=AAPL&mode=some", 422),
        ("symbols=AAPL&max_rate_hz=often", 422),
        ("", 422),
    ):
        answer = await asyncio.to_thread(http.get, f"/ws/sse?{query}")
        assert answer.status_code == status, query
        assert answer.json()["detail"]["message"]


# -- the routes beside -------------------------------------------------------------------------


async def test_operators_see_who_is_connected_and_can_tell_them(
    service: Service, http: httpx.Client
) -> None:
    async with asyncio.timeout(60), websockets.connect(ws_url(service)) as socket:
        client_id = orjson.loads(await socket.recv())["client_id"]
        await socket.send('{"action":"subscribe","type":"alerts","symbols":["AAPL"]}')
        await socket.recv()

        status = (await asyncio.to_thread(http.get, "/ws/status")).json()
        assert status["system_health"] == "healthy"
        assert status["websocket_manager"]["active_connections"] >= 1
        clients = (await asyncio.to_thread(http.get, "/ws/clients")).json()["clients"]
        (own,) = [client for client in clients if client["client_id"] == client_id]
        assert own["subscription_types"] == ["alerts"]

        params = {"message": "a word", "target_type": "alerts"}
        told = await asyncio.to_thread(http.post, "/ws/broadcast", params=params)
        assert told.json()["success"] is True
        while (message := orjson.loads(await socket.recv())).get("source") != "admin":
            pass
    assert (message["message"], message["broadcast_type"]) == ("a word", "alerts")
    for params in ({}, {"message": "x", "target_type": "moon"}, {"message": "x" * 2_001}):
        refused = await asyncio.to_thread(http.post, "/ws/broadcast", params=params)
        assert refused.status_code == 422, params


def test_symbols_are_pinned_and_let_go(http: httpx.Client) -> None:
    started = http.post("/ws/streaming/start", json={"symbols": ["AAPL", "ibm"]}).json()
    assert (started["success"], started["monitored_symbols"]) == (True, 2)
    assert started["stats"]["is_streaming"] is True
    again = http.post("/ws/streaming/start?symbols=AAPL,IBM").json()
    assert again["success"] is False
    assert http.post("/ws/streaming/start", json={"symbols": ["NOPE"]}).status_code == 404
    assert http.post("/ws/streaming/start", json={"symbols": [1]}).status_code == 422
    assert http.post("/ws/streaming/start", content=b"{").status_code == 422
    base = "/api/v2/technical-analysis"
    old = http.post(f"{base}/streaming/start?symbols=AAPL&symbols=MSFT&indicators=rsi,atr").json()
    assert old["status"] == "streaming_started"
    assert (old["symbols"], old["indicators"]) == (["AAPL", "MSFT"], ["rsi", "atr"])
    alerts = http.post(f"{base}/alerts/subscribe?symbols=AAPL").json()
    assert alerts["status"] == "subscribed"
    refused = http.post(f"{base}/alerts/subscribe?symbols=AAPL&alert_types=moon")
    assert refused.status_code == 422
    assert http.post(f"{base}/streaming/start?symbols=NOPE").status_code == 404
    assert http.post(f"{base}/streaming/start?symbols=AAPL&indicators=zz").status_code == 422
    assert http.post("/ws/streaming/stop").json()["success"] is True
    assert http.post("/ws/streaming/stop").json()["success"] is False
