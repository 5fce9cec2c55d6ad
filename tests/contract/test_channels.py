"""Notices by email and chats, against a real SMTP server; and what may be a target."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from actors.monitor.channels import EmailServer
from infra.clock import SystemClock
from infra.errors import ConfigError
from infra.notify.channels import AnySender, ChannelSender
from infra.notify.guard import guarded
from infra.notify.notice import Notice
from infra.notify.outcome import Refused, Sent, TryAgain
from infra.notify.resolver import AddressRefused
from infra.notify.signing import new_secret
from infra.notify.webhook import WebhookSender
from infra.settings import load_settings, masked
from tests.fakes.smtp import Mailbox, mailbox

NOTICE = Notice(
    "alert-1", "alert", "AAPL: price_rise", "AAPL at 104.00: +4 %", "warning",
    datetime(2026, 3, 4, tzinfo=UTC),
)  # fmt: skip


@pytest.fixture
def smtp() -> Iterator[tuple[Mailbox, int]]:
    with mailbox() as found:
        yield found


async def test_an_email_arrives_with_title_and_text(smtp: tuple[Mailbox, int]) -> None:
    box, port = smtp
    url = f"mailto://127.0.0.1:{port}?from=finstage@example.com&to=ops@example.com&mode=insecure"

    assert await ChannelSender(allow_private=True).send(url, "", NOTICE) == Sent(200)

    (mail,) = box.mails
    assert mail["Subject"] == "AAPL: price_rise"
    parts = [part.get_payload(decode=True) for part in mail.walk() if not part.is_multipart()]
    assert any(b"AAPL at 104.00" in part for part in parts if isinstance(part, bytes))


async def test_who_is_not_there_or_does_not_answer_is_tried_again() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        url = f"mailto://127.0.0.1:{port}?from=a@example.com&to=b@example.com&mode=insecure"
        hanging = await ChannelSender(0.3, allow_private=True).send(url, "", NOTICE)
    refusing = await ChannelSender(allow_private=True).send(url, "", NOTICE)

    assert isinstance(hanging, TryAgain)
    assert isinstance(refusing, TryAgain)
    assert isinstance(await ChannelSender().send("nonsense://x", "", NOTICE), Refused)


MAIL = "mailto://{}:{}?from=a@example.com&to=b@example.com&mode=insecure"
HOSTS = ("127.0.0.1", "127.1", "2130706433", "0177.0.0.1", "0x7f000001", "localhost", "mail.test",
         "[::1]", "[::ffff:127.0.0.1]")  # fmt: skip


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The answers that `mail.test` has, one a question, the last for ever."""
    real, answers = socket.getaddrinfo, ["127.0.0.1"]

    def lookup(host: Any, *args: Any, **more: Any) -> Any:
        if host == "mail.test":
            host = answers.pop(0) if len(answers) > 1 else answers[0]
        return real(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return answers


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize(
    "url", ["mailto://{}:{}?from=a@example.com&to=b@example.com&mode=insecure", "json://{}:{}/"]
)
async def test_no_channel_reaches_this_machine(
    smtp: tuple[Mailbox, int], names: list[str], host: str, url: str
) -> None:
    box, port = smtp

    outcome = await ChannelSender(3.0).send(url.format(host, port), "", NOTICE)

    assert not isinstance(outcome, Sent)
    assert box.sessions == 0
    if host in ("127.0.0.1", "localhost", "[::1]"):
        assert isinstance(outcome, Refused)
        assert "FINSTAGE_NOTIFY_PRIVATE" in outcome.reason
    if host == "mail.test":
        assert outcome == Refused("127.0.0.1 is no public address")


async def test_a_name_that_means_something_else_at_each_question_gains_nothing(
    smtp: tuple[Mailbox, int], names: list[str]
) -> None:
    box, port = smtp
    names[:0] = ["93.184.215.14"]
    assert socket.getaddrinfo("mail.test", port)[0][4][0] == "93.184.215.14"

    url = f"mailto://mail.test:{port}?from=a@example.com&to=b@example.com"
    outcome = await ChannelSender(3.0).send(url, "", NOTICE)

    assert outcome == Refused("127.0.0.1 is no public address")
    assert box.sessions == 0


async def test_a_host_cannot_bring_parameters_of_its_own(smtp: tuple[Mailbox, int]) -> None:
    box, port = smtp
    host = f"mail.invalid:25/?smtp=127.0.0.1&port={port}&x="
    server = EmailServer(host, port, "a@example.com", ("b@example.com",))

    for allow_private in (False, True):
        outcome = await ChannelSender(3.0, allow_private).send(server.url(), "", NOTICE)
        assert not isinstance(outcome, Sent)
    assert box.sessions == 0


def test_a_guard_knows_paths_names_and_addresses_of_datagrams() -> None:
    with guarded() as guard, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        with pytest.raises(AddressRefused):
            out.sendto(b"x", ("127.0.0.1", 9))
    assert guard.refused == "127.0.0.1 is no public address"
    with guarded(), socket.socket(socket.AF_UNIX) as path, pytest.raises(AddressRefused):
        path.connect("/dev/log")
    with guarded(), socket.socket() as name, pytest.raises(AddressRefused):
        name.connect(("localhost", 9))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        assert out.sendto(b"x", ("127.0.0.1", 9)) == 1  # outside of it all is as it was


@dataclass
class Dripping:
    """A mail server that answers a byte now and then, and never to the end."""

    port: int = 0
    clients: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, _: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        self.clients.append(out)
        with contextlib.suppress(ConnectionError):
            while not out.is_closing():
                out.write(b"2")
                await out.drain()
                await asyncio.sleep(0.1)

    def url(self, user: str = "a") -> str:
        return MAIL.format("127.0.0.1", self.port) + f"&name={user}"

    def hang_up(self) -> None:
        while self.clients:
            self.clients.pop().close()


@pytest.fixture
async def dripping() -> AsyncIterator[Dripping]:
    made = Dripping()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    made.hang_up()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - threads have no event of the loop
            await asyncio.sleep(0.01)


async def test_a_target_that_never_ends_its_answer_has_one_thread(dripping: Dripping) -> None:
    sender = ChannelSender(0.3, allow_private=True)

    first = await sender.send(dripping.url(), "", NOTICE)
    await until(lambda: len(dripping.clients) == 1)
    again = [await sender.send(dripping.url(), "", NOTICE) for _ in range(3)]

    assert first == TryAgain("Apprise does not answer within 0.3 s")
    assert again == [TryAgain("the former request to Apprise still goes on")] * 3
    assert len(dripping.clients) == 1
    dripping.hang_up()
    await until(lambda: sender.at_work == 0)
    assert await sender.send(dripping.url(), "", NOTICE) == first


async def test_at_most_so_many_targets_hang_at_one_time(dripping: Dripping) -> None:
    sender = ChannelSender(0.3, allow_private=True, threads=2)

    for user in ("a", "b"):
        assert isinstance(await sender.send(dripping.url(user), "", NOTICE), TryAgain)
    await until(lambda: len(dripping.clients) == 2)

    outcome = await sender.send(dripping.url("c"), "", NOTICE)
    assert outcome == TryAgain("Apprise does not answer: all 2 requests to it hang")
    assert len(dripping.clients) == 2


async def test_webhooks_go_though_mail_servers_hang(dripping: Dripping, names: list[str]) -> None:
    posts: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        posts.append(await request.read())
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", take)
    # As few of the loop's own threads as there are mail servers: names are looked up in them.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    channels = ChannelSender(0.3, allow_private=True)
    async with (
        TestServer(app, host="127.0.0.1") as server,
        WebhookSender(SystemClock(), "test", 5.0, allow_private=True) as webhooks,
    ):
        sender = AnySender(webhooks, channels)
        await asyncio.gather(*(sender.send(dripping.url(u), "", NOTICE) for u in "abcd"))
        await until(lambda: channels.at_work == 4)
        hook = f"http://mail.test:{server.port}/hook"
        outcome = await sender.send(hook, new_secret(), NOTICE)
        dripping.hang_up()

    assert outcome == Sent(200)
    assert len(posts) == 1


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[str]]:
    """A proxy of the own network that the environment names; what it was asked for."""
    asked: list[str] = []

    async def take(reader: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n")).decode().rpartition(" ")[0])
        out.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await out.drain()
        out.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for name in ("no_proxy", "NO_PROXY", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://user:pass@mail.test:{port}")
    yield asked
    server.close()


async def test_a_proxy_of_the_own_network_is_connected_to(
    proxy: list[str], names: list[str]
) -> None:
    outcome = await ChannelSender(5.0).send("json://hooks.example.com/x", "", NOTICE)

    assert outcome == Sent(200)
    assert proxy == ["POST http://hooks.example.com/x"]


@pytest.mark.parametrize("host", [*sorted(set(HOSTS) - {"mail.test"}), "10.0.0.5", "127.0.0.1."])
async def test_a_proxy_is_asked_for_no_private_address(
    proxy: list[str], names: list[str], host: str
) -> None:
    outcome = await ChannelSender(5.0).send(f"json://{host}/x", "", NOTICE)

    assert isinstance(outcome, Refused)
    assert proxy == []


async def test_beside_the_proxy_the_own_network_stays_closed(
    smtp: tuple[Mailbox, int], proxy: list[str], names: list[str]
) -> None:
    box, port = smtp

    outcome = await ChannelSender(5.0).send(MAIL.format("mail.test", port), "", NOTICE)

    assert outcome == Refused("127.0.0.1 is no public address")
    assert box.sessions == 0


async def test_the_target_chooses_the_sender() -> None:
    sent: list[tuple[str, str]] = []

    class Kept:
        def __init__(self, name: str) -> None:
            self.name = name

        async def send(self, url: str, secret: str, notice: Notice) -> Sent:
            sent.append((self.name, url))
            return Sent(200)

    sender = AnySender(Kept("webhook"), Kept("channel"))
    for url in ("https://a.example/x", "HTTP://b.example/", "mailto://c.example", "tgram://t/1"):
        await sender.send(url, "s", NOTICE)

    assert [name for name, _ in sent] == ["webhook", "webhook", "channel", "channel"]


def loaded(monkeypatch: pytest.MonkeyPatch, **values: str) -> Any:
    for name, value in values.items():
        monkeypatch.setenv(f"FINSTAGE_{name.upper()}", value)
    return load_settings()


def test_what_cannot_be_told_stops_the_start_and_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ConfigError, match="FINSTAGE_NOTIFY_SECRET"):
        loaded(monkeypatch, notify_targets="https://hooks.example.com/t0psecret")
    with pytest.raises(ConfigError, match="FINSTAGE_NOTIFY_TARGETS") as caught:
        loaded(monkeypatch, notify_targets="nonsense://t0psecret@x/t0psecret")
    assert "t0psecret" not in caught.value.message
    for target in (
        "mailto://u:t0p@localhost",
        "json://10.0.0.1/t0p",
        "mailto://u:t0p@example.com?smtp=127.0.0.1",
    ):
        with pytest.raises(ConfigError, match="FINSTAGE_NOTIFY_PRIVATE"):
            loaded(monkeypatch, notify_targets=target)
    assert loaded(monkeypatch, notify_targets="mailto://localhost", notify_private="true").targets
    monkeypatch.delenv("FINSTAGE_NOTIFY_PRIVATE")
    with pytest.raises(ConfigError, match="whsec_"):
        loaded(monkeypatch, notify_targets="", notify_secret="whsec_***")


def test_targets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(
        monkeypatch,
        notify_targets="https://hooks.example.com/t0p, mailto://u:t0p@example.com",
        notify_secret=new_secret(),
    )
    assert len(settings.targets) == 2
    assert "t0p" not in masked(settings, "notify_targets")
    assert "t0p" not in repr(settings)
