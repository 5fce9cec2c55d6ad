"""Notices by whatever Apprise knows: email, chats, push services."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any, Protocol

from infra.errors import TargetInvalid
from infra.notify.addresses import is_literal, is_public
from infra.notify.guard import guarded
from infra.notify.notice import Notice
from infra.notify.outcome import Outcome, Refused, Sent, TryAgain
from infra.notify.resolver import AddressRefused
from infra.notify.targets import shown

_KINDS = {"info": "info", "warning": "warning", "error": "failure", "critical": "failure"}


def is_webhook(target: str) -> bool:
    """Return whether a target is a URL that takes signed webhooks."""
    return target.lower().startswith(("http://", "https://"))


def checked_channel(target: str, allow_private: bool) -> str:
    """Return a target that Apprise knows; raises TargetInvalid, which shows no secret.

    Of many channels the host is a token, so only an address says something here; what is
    connected to is looked at when something is sent.
    """
    channel = _channel(target)
    if channel is None:
        raise TargetInvalid(shown(target), "no channel has such a URL (see Apprise's list)")
    for name in ("host", "smtp_host"):
        host = str(getattr(channel, name, None) or "").lower()
        is_private = host == "localhost" or (is_literal(host) and not is_public(host))
        if is_private and not allow_private:
            why = "its address is private (see FINSTAGE_NOTIFY_PRIVATE)"
            raise TargetInvalid(shown(target), why)
    return target


class Sender(Protocol):
    """Who sends to one kind of target."""

    async def send(self, url: str, secret: str, notice: Notice) -> Outcome:
        """Send once, and say what came of it."""


class ChannelSender:
    """Sends through Apprise, which waits in a thread for as long as its server takes.

    Unless `allow_private`, that thread connects to addresses of the internet only. One that
    outlasts `timeout_s` goes on by itself; its notice counts as not sent, so it may come twice.
    """

    def __init__(self, timeout_s: float = 10.0, allow_private: bool = False) -> None:
        self._timeout_s = timeout_s
        self._allow_private = allow_private

    async def send(self, url: str, secret: str, notice: Notice) -> Outcome:
        """Send once, and say what came of it."""
        channel = _channel(url)
        if channel is None:
            return Refused("no channel has such a URL")
        kind = _KINDS.get(notice.severity, "info")
        notify = functools.partial(
            channel.notify, body=notice.text, title=notice.title, notify_type=kind
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.to_thread(self._outcome, notify)
        except TimeoutError:
            return TryAgain(f"no answer within {self._timeout_s:g} s")
        except Exception as error:  # of one of its hundred plugins
            return TryAgain(f"{type(error).__name__}: {error}"[:200])

    def _outcome(self, notify: Callable[[], Any]) -> Outcome:
        if self._allow_private:
            return _said(notify())
        with guarded() as guard:
            try:
                is_sent = notify()
            except AddressRefused:
                is_sent = False
        return Refused(guard.refused) if guard.refused and not is_sent else _said(is_sent)


def _said(is_sent: object) -> Outcome:
    return Sent(200) if is_sent else TryAgain("the channel did not take it")


class AnySender:
    """Chooses by the target: signed webhooks for http and https, Apprise for the rest."""

    def __init__(self, webhooks: Sender, channels: Sender) -> None:
        self._webhooks = webhooks
        self._channels = channels

    async def send(self, url: str, secret: str, notice: Notice) -> Outcome:
        """Send once, and say what came of it."""
        sender = self._webhooks if is_webhook(url) else self._channels
        return await sender.send(url, secret, notice)


@functools.lru_cache(maxsize=1_000)
def _channel(target: str) -> Any:
    """Return Apprise's object of a URL, None if it knows none; importing it takes a moment."""
    import apprise

    return apprise.Apprise.instantiate(target, suppress_exceptions=True)
