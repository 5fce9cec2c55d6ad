"""Notices by email and chats, against a real SMTP server; and what may be a target."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from infra.errors import ConfigError
from infra.notify.channels import AnySender, ChannelSender
from infra.notify.notice import Notice
from infra.notify.outcome import Refused, Sent, TryAgain
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

    assert await ChannelSender().send(url, "", NOTICE) == Sent(200)

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
        hanging = await ChannelSender(0.3).send(url, "", NOTICE)
    refusing = await ChannelSender().send(url, "", NOTICE)

    assert isinstance(hanging, TryAgain)
    assert isinstance(refusing, TryAgain)
    assert isinstance(await ChannelSender().send("nonsense://x", "", NOTICE), Refused)


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
