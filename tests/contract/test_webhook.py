"""Webhooks to a real receiver on loopback: taken, refused, late, broken."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from aiohttp import web

from infra.clock import FakeClock
from infra.notify.notice import Notice
from infra.notify.outcome import Refused, Sent, TryAgain
from infra.notify.signing import is_signed, new_secret
from infra.notify.webhook import WebhookSender

SECRET = new_secret()
AT = datetime(2026, 11, 25, 14, 30, tzinfo=UTC)
NOTICE = Notice("n-1", "price_alert", "AAPL", "AAPL rose", "info", AT, {"price": 201.5})


HERE = (
    "127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "127.1", "2130706433", "0177.0.0.1",
    "0x7f000001", "0x7f.1", "127.0.0.1.", "localhost.",
)  # fmt: skip


class Receiver:
    """Takes what comes, and answers as the path says."""

    def __init__(self) -> None:
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.release = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.taken.append((headers, await request.read()))
        what = request.path.strip("/")
        if what == "hang":
            await self.release.wait()
        if what == "break":
            assert request.transport is not None
            request.transport.abort()
        if what == "moved":
            raise web.HTTPFound("/200")
        if what.startswith("later"):
            return web.Response(status=429, headers={"retry-after": what.removeprefix("later-")})
        return web.Response(status=int(what) if what.isdigit() else 200)


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[Receiver, str]]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{what}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield receiver, f"http://127.0.0.1:{port}"
    receiver.release.set()
    await runner.cleanup()


async def test_a_notice_arrives_signed(receiver: tuple[Receiver, str]) -> None:
    taker, url = receiver
    clock = FakeClock(1_764_081_000.0)
    async with WebhookSender(clock, "Finstage/1", allow_private=True) as sender:
        assert await sender.send(f"{url}/200", SECRET, NOTICE) == Sent(200)

    headers, body = taker.taken[0]
    assert is_signed(SECRET, headers, body, clock.time_s())
    assert headers["user-agent"] == "Finstage/1"
    told = orjson.loads(body)
    assert (told["id"], told["type"]) == ("n-1", "price_alert")
    assert told["timestamp"] == "2026-11-25T14:30:00+00:00"
    assert told["data"]["price"] == 201.5


@pytest.mark.parametrize(
    ("what", "outcome"),
    [
        ("204", Sent(204)),
        ("500", TryAgain("HTTP 500")),
        ("503", TryAgain("HTTP 503")),
        ("408", TryAgain("HTTP 408")),
        ("later-7", TryAgain("HTTP 429", 7.0)),
        ("later-99999", TryAgain("HTTP 429", 3_600.0)),
        ("later-soon", TryAgain("HTTP 429")),
        ("later-Thu, 01 Jan 1970 00:02:00 GMT", TryAgain("HTTP 429", 20.0)),
        ("410", Refused("HTTP 410")),
        ("404", Refused("HTTP 404")),
        ("moved", Refused("HTTP 302")),
        ("break", TryAgain("ServerDisconnectedError")),
    ],
)
async def test_what_comes_of_an_answer(
    receiver: tuple[Receiver, str], what: str, outcome: object
) -> None:
    taker, url = receiver
    async with WebhookSender(FakeClock(100.0), "Finstage/1", allow_private=True) as sender:
        assert await sender.send(f"{url}/{what}", SECRET, NOTICE) == outcome
    assert len(taker.taken) == 1  # sent once, and no redirect followed


async def test_one_that_hangs_holds_up_no_other(receiver: tuple[Receiver, str]) -> None:
    taker, url = receiver
    async with WebhookSender(FakeClock(), "Finstage/1", 5, allow_private=True) as sender:
        hanging = asyncio.create_task(sender.send(f"{url}/hang", SECRET, NOTICE))
        others = await asyncio.gather(
            *(sender.send(f"{url}/200", SECRET, NOTICE) for _ in range(50))
        )
        assert others == [Sent(200)] * 50
        assert await hanging == TryAgain("no answer within 5 s")


async def test_nothing_goes_to_this_machine_unless_allowed(
    receiver: tuple[Receiver, str],
) -> None:
    taker, url = receiver
    port = url.rpartition(":")[2]
    async with WebhookSender(FakeClock(), "Finstage/1") as sender:
        for host in HERE:
            outcome = await sender.send(f"http://{host}:{port}/200", SECRET, NOTICE)
            assert isinstance(outcome, Refused), host
    assert taker.taken == []


async def test_a_name_is_what_it_means_when_it_is_connected_to(
    receiver: tuple[Receiver, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taker, url = receiver
    port = url.rpartition(":")[2]
    real, answers = socket.getaddrinfo, ["127.0.0.1", "10.0.0.1"]

    def lookup(host: Any, *args: Any, **more: Any) -> Any:
        return real(answers.pop() if host == "hook.test" else host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    async with WebhookSender(FakeClock(), "Finstage/1") as sender:
        for _ in range(2):
            outcome = await sender.send(f"http://hook.test:{port}/200", SECRET, NOTICE)
            assert outcome == Refused("hook.test is no public address")
    assert (taker.taken, answers) == ([], [])


async def test_a_receiver_that_is_not_there_is_tried_again(
    receiver: tuple[Receiver, str],
) -> None:
    async with WebhookSender(FakeClock(), "Finstage/1", allow_private=True) as sender:
        outcome = await sender.send("http://127.0.0.1:9/200", SECRET, NOTICE)
    assert isinstance(outcome, TryAgain)
