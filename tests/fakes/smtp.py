"""A real SMTP server on loopback that keeps what it gets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from typing import Any

from aiosmtpd.controller import Controller


class Mailbox:
    """Keeps what an SMTP server gets, and counts connections."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.sessions = 0

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(message_from_bytes(envelope.content))
        return "250 taken"


class Counted(Controller):
    """Tells the mailbox of each connection."""

    def factory(self) -> Any:
        self.handler.sessions += 1
        return super().factory()  # type: ignore[no-untyped-call]


@contextmanager
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    """Run a server; give its mails and its port."""
    box = Mailbox()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Counted(box, hostname="127.0.0.1", port=port)
    controller.start()
    box.sessions = 0  # its own, by which it knows that it is there
    yield box, port
    controller.stop()
