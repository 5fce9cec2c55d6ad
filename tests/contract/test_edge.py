"""The edge gives what the routes give, byte for byte, and refuses what they refuse."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from serve.edge.front import Edge, Site, close_site, open_site
from serve.rest.questions import quick_answer
from tests.local import LocalService

URL = "/api/v2/technical-analysis/indicators/AAPL?period=1y"
LONG = "/api/v2/prices/AAPL/history?period=max"


@pytest.fixture
async def site(local: LocalService) -> AsyncIterator[Site]:
    quick = functools.partial(quick_answer, local.services)
    site = Site(
        local.gate,
        local.near,
        local.settings.gzip_above_bytes,
        local.app,
        asyncio.get_running_loop(),
        quick,
    )
    open_site(site)
    yield site
    close_site()


@pytest.fixture
async def edge(local: LocalService, site: Site) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(Edge(local.app))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as http:
        yield http


def compared(answer: httpx.Response) -> dict[str, str]:
    return {k: v for k, v in answer.headers.items() if k != "x-request-id"}


@pytest.mark.parametrize("url", [URL, LONG])
@pytest.mark.parametrize("encoding", ["gzip", "identity"])
async def test_edge_and_route_give_the_same(
    edge: httpx.AsyncClient,
    client: httpx.AsyncClient,
    site: Site,
    url: str,
    encoding: str,
) -> None:
    headers = {"accept-encoding": encoding}
    from_route = await client.get(url, headers=headers)
    from_edge = await edge.get(url, headers=headers)

    assert sum(site.answered.values()) == 1
    assert from_edge.content == from_route.content
    assert compared(from_edge) == compared(from_route)
    assert from_edge.headers["x-request-id"]


async def test_edge_answers_304_as_the_route_does(
    edge: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    etag = (await edge.get(URL)).headers["etag"]
    headers = {"if-none-match": f'"other", {etag}'}

    from_edge = await edge.get(URL, headers=headers)
    from_route = await client.get(URL, headers=headers)

    assert (from_edge.status_code, from_edge.content) == (304, b"")
    assert compared(from_edge) == compared(from_route)


async def test_edge_refuses_a_foreign_host_on_a_cached_answer(
    edge: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    await edge.get(URL)
    headers = {"host": "evil.example"}

    from_edge = await edge.get(URL, headers=headers)
    from_route = await client.get(URL, headers=headers)

    assert from_edge.status_code == from_route.status_code == 403
    assert from_edge.json()["detail"]["code"] == from_route.json()["detail"]["code"]


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "/api/v2/technical-analysis/indicators/%5Egspc?method=reference&interval=1wk",
        "/api/v2/technical-analysis/indicators/META",
        "/api/v2/technical-analysis/indicators/APPL",
        "/api/v2/technical-analysis/indicators/AAPL?period=7y",
        "/api/v2/technical-analysis/indicators/AAPL?indicators=rsi",
        "/api/v2/technical-analysis/indicators/A/B",
        "/api/v2/technical-analysis/indicators/%0a",
    ],
)
async def test_a_question_that_memory_does_not_answer_is_answered_as_by_the_route(
    edge: httpx.AsyncClient, client: httpx.AsyncClient, local: LocalService, url: str
) -> None:
    headers = {"x-request-id": "same"}
    from_edge = await edge.get(url, headers=headers)
    calls = len(local.indicators.calls)
    again = await edge.get(url, headers=headers)
    assert again.content == from_edge.content
    assert again.status_code != 200 or len(local.indicators.calls) == calls
    local.near.on_snapshot(local.hub.snapshot())  # forget the answer
    from_route = await client.get(url, headers=headers)

    assert from_edge.status_code == from_route.status_code
    assert from_edge.content == from_route.content
    assert compared(from_edge) == compared(from_route)


async def test_many_who_ask_for_the_same_at_once_make_one_call(
    edge: httpx.AsyncClient, local: LocalService
) -> None:
    urls = [f"{URL}&unknown={n}" for n in range(50)]

    answers = await asyncio.gather(*(edge.get(url) for url in urls))

    assert {answer.status_code for answer in answers} == {200}
    assert local.indicators.calls == ["indicators"]


async def test_a_request_with_an_origin_goes_to_the_application(
    edge: httpx.AsyncClient, site: Site
) -> None:
    await edge.get(URL)
    from_page = await edge.get(URL, headers={"origin": "https://desk.example"})

    assert from_page.status_code == 200
    assert sum(site.answered.values()) == 1


async def test_a_bug_met_at_the_edge_is_answered_by_the_application(
    edge: httpx.AsyncClient, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> Any:
        raise KeyError("a bug")

    site.quick = lambda _path, _query: broken

    answer = await edge.get(URL)

    assert answer.status_code == 200
    assert "edge.failed" in caplog.text


async def test_a_bug_of_the_gate_lets_nothing_out(
    edge: httpx.AsyncClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await edge.get(URL)
    hits = sum(site.hits.values())

    def broken(*_: Any) -> str:
        raise KeyError("a bug")

    monkeypatch.setattr(site.gate, "admit", broken)
    with pytest.raises(KeyError):  # the application asks its gate too; the server answers 500
        await edge.get(URL)
    assert sum(site.hits.values()) == hits


@pytest.mark.parametrize("symbol", ["%2541APL", "%25%34%31APL"])
async def test_a_path_is_unquoted_once(edge: httpx.AsyncClient, symbol: str) -> None:
    answer = await edge.get(f"/api/v2/technical-analysis/indicators/{symbol}")

    assert answer.status_code == 404


async def test_on_another_loop_everything_is_passed_on(local: LocalService, site: Site) -> None:
    site.loop = asyncio.new_event_loop()
    transport = httpx.ASGITransport(Edge(local.app))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        answers = [await http.get(URL) for _ in range(2)]
    site.loop.close()

    assert {answer.status_code for answer in answers} == {200}
    assert not site.answered


async def test_what_haproxy_asks_of_the_replica_goes_to_serve(site: Site) -> None:
    asked: list[str] = []

    async def serves_own(scope: Any, _receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    transport = httpx.ASGITransport(Edge(serves_own))
    async with httpx.AsyncClient(transport=transport, base_url="http://10.0.0.1:30000") as http:
        answer = await http.get("/-/healthz")

    assert answer.status_code == 200
    assert asked == ["/-/healthz"]


async def test_without_a_site_http_passes_and_sockets_are_refused(local: LocalService) -> None:
    close_site()
    edge = Edge(local.app)
    transport = httpx.ASGITransport(edge)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        passed = await http.get(URL)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    await edge({"type": "websocket", "path": "/ws/realtime", "headers": []}, receive, send)

    assert passed.status_code == 200
    assert sent[0]["status"] == 503
    assert (b"retry-after", b"1") in sent[0]["headers"]
