"""Notices by whatever Apprise knows: email, chats, push services."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

from infra.clock import Clock, SystemClock
from infra.errors import SourceUnavailable, TargetInvalid
from infra.notify.addresses import is_literal, is_private_form
from infra.notify.guard import guarded
from infra.notify.notice import Notice
from infra.notify.outcome import Outcome, Refused, Sent, TryAgain
from infra.notify.resolver import AddressRefused
from infra.notify.targets import shown
from infra.threads import Threads

_MOST_THREADS = 32  # a target has one at most, however long it takes
_KINDS = {"info": "info", "warning": "warning", "error": "failure", "critical": "failure"}


def is_webhook(target: str) -> bool:
    """Return whether a target is a URL that takes signed webhooks."""
    return target.lower().startswith(("http://", "https://"))


def checked_channel(target: str, allow_private: bool) -> str:
    """Return a target that Apprise knows; raises TargetInvalid, which shows no secret.

    Of many channels the host is a token, so only an address says something there; what is
    connected to is looked at when something is sent, but through a proxy only this is known.
    """
    channel = _channel(target)
    if channel is None:
        raise TargetInvalid(shown(target), "no channel has such a URL (see Apprise's list)")
    for name in ("host", "smtp_host"):
        host = str(getattr(channel, name, None) or "").lower()
        is_host = name == "smtp_host" or _connects_to_host(channel) or is_literal(host)
        is_private = host == "localhost" or (is_host and is_private_form(host))
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

    Unless `allow_private`, that thread connects to addresses of the internet only, or to the
    proxy that the environment names. One that outlasts `timeout_s` goes on by itself; its notice
    counts as not sent, so it may come twice. Until it is over its target gets no other thread,
    and at most `threads` go on at all: no event loop's own threads are taken.
    """

    def __init__(
        self,
        timeout_s: float = 10.0,
        allow_private: bool = False,
        clock: Clock | None = None,
        threads: int = _MOST_THREADS,
    ) -> None:
        self._timeout_s = timeout_s
        self._allow_private = allow_private
        self._threads = Threads("Apprise", threads, clock or SystemClock())

    @property
    def at_work(self) -> int:
        """How many threads are at work, those that outlasted the time-out among them."""
        return self._threads.running

    async def send(self, url: str, secret: str, notice: Notice) -> Outcome:
        """Send once, and say what came of it."""
        try:  # again: it may be older than the check
            channel = _channel(checked_channel(url, self._allow_private))
        except TargetInvalid as error:
            return Refused(error.reason)
        kind = _KINDS.get(notice.severity, "info")
        notify = functools.partial(
            channel.notify, body=notice.text, title=notice.title, notify_type=kind
        )
        try:
            attempt = functools.partial(self._outcome, notify)
            return await self._threads.run(attempt, self._timeout_s, key=url)
        except SourceUnavailable as error:
            return TryAgain(error.text)
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


def _connects_to_host(channel: Any) -> bool:
    """Return whether the host in the URLs of a channel is one, and no token."""
    return any("{host}" in template for template in channel.templates)


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
