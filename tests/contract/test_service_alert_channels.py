"""Alerts about the service arrive: at a real SMTP server and a real HTTP receiver."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from infra.clock import SystemClock
from infra.metrics import snapshot
from infra.notify.channels import AnySender, ChannelSender
from infra.notify.signing import is_signed
from infra.notify.webhook import WebhookSender
from infra.outbox import Courier
from tests.fakes.smtp import Mailbox, mailbox
from tests.local import LocalService
from tests.local_monitor import MACHINE

A = "/api/v2/alerts"


@pytest.fixture
def smtp() -> Iterator[tuple[Mailbox, int]]:
    with mailbox() as found:
        yield found


@asynccontextmanager
async def receiver(got: list[tuple[dict[str, str], bytes]], hangs: bool) -> AsyncIterator[str]:
    """A web server that takes webhooks, or takes them and says nothing."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])
        }
        body = await reader.readexactly(int(headers["content-length"]))
        got.append((headers, body))
        if not hangs:
            writer.write(b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
        else:
            await ended.wait()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    ended, tasks = asyncio.Event(), list[asyncio.Task[Any]]()
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    ended.set()
    server.close()
    await asyncio.gather(*tasks)


async def test_one_that_hangs_holds_up_no_other_and_is_recorded(
    tmp_path: Path, smtp: tuple[Mailbox, int]
) -> None:
    box, port = smtp
    good: list[tuple[dict[str, str], bytes]] = []
    bad: list[tuple[dict[str, str], bytes]] = []
    local = LocalService(tmp_path, notify_private=True)
    clock = SystemClock()
    transport = httpx.ASGITransport(local.app)
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as http,
        receiver(good, hangs=False) as good_url,
        receiver(bad, hangs=True) as bad_url,
        WebhookSender(clock, "Finstage/test", 0.5, True) as webhooks,
    ):
        email = {"smtp_server": "127.0.0.1", "smtp_port": port, "from_email": "f@example.com",
                 "to_emails": ["ops@example.com"]}  # fmt: skip
        (await http.post(f"{A}/config/email", json=email)).raise_for_status()
        secrets = {}
        for url in (bad_url, good_url):
            answer = await http.post(f"{A}/config/webhook", json={"webhook_url": url})
            secrets[url] = answer.json()["secret"]
        rule = {
            "id": "full_disk", "name": "Disk", "metric_name": "disk_usage_percent",
            "condition": ">", "threshold": 90, "severity": "critical",
            "channels": ["email", "webhook"],
        }  # fmt: skip
        (await http.post(f"{A}/rules", json=rule)).raise_for_status()
        for _ in range(4):
            local.clock.advance(30)
            await local.monitor.look(snapshot(), replace(MACHINE, disk_usage_percent=95.0))
        sender = AnySender(webhooks, ChannelSender(allow_private=True))
        courier = Courier(local.services.store, sender, clock)
        while await courier.look():
            await courier.idle()

    (mail,) = box.mails
    assert "Disk" in str(mail["Subject"])
    ((headers, body),) = good
    assert is_signed(secrets[good_url], headers, body, clock.time_s())
    assert orjson.loads(body)["type"] == "service_alert"
    assert len(bad) == 1
    notice_id = headers["webhook-id"]
    states = {
        delivery.target: (delivery.state, delivery.tries)
        for delivery in await local.services.store.read(
            lambda unit: unit.deliveries.of_notice(notice_id)
        )
    }
    assert states[good_url] == ("sent", 1)
    assert states[bad_url] == ("waiting", 1)
