"""Notices by email and chats, against a real SMTP server; and what may be a target."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from actors.monitor.channels import EmailServer
from infra.errors import ConfigError
from infra.notify.channels import AnySender, ChannelSender
from infra.notify.guard import guarded
from infra.notify.notice import Notice
from infra.notify.outcome import Refused, Sent, TryAgain
from infra.notify.resolver import AddressRefused
from infra.notify.signing import new_secret
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

    assert isinstance(outcome, Refused | TryAgain)
    assert box.sessions == 0
    if host in ("127.0.0.1", "localhost", "mail.test"):
        assert isinstance(outcome, Refused)
        assert "no public address" in outcome.reason


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
