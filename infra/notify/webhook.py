"""Sends a notice to a URL, once."""

from __future__ import annotations

import asyncio
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self

import aiohttp
import orjson
from yarl import URL

from infra.clock import Clock
from infra.digits import whole_number
from infra.errors import TargetInvalid
from infra.notify.notice import Notice
from infra.notify.outcome import Outcome, Refused, Sent, TryAgain
from infra.notify.resolver import AddressRefused, GuardedResolver
from infra.notify.signing import signed_headers
from infra.notify.targets import checked_target

_AGAIN = frozenset({408, 425, 429})  # and those of 500 and above
_LONGEST_WAIT_S = 3_600.0


class WebhookSender:
    """POSTs notices as signed JSON. Used as `async with`; for one event loop.

    Redirects are not followed. Unless `allow_private`, nothing is sent to an address that is not
    the internet's, whatever a name resolves to at that moment.
    """

    def __init__(
        self, clock: Clock, agent: str, timeout_s: float = 10.0, allow_private: bool = False
    ) -> None:
        self._clock = clock
        self._agent = agent
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._allow_private = allow_private
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        resolver = aiohttp.ThreadedResolver()
        guarded = resolver if self._allow_private else GuardedResolver(resolver)
        # Names are resolved for every connection, and none is shared: so a target that hangs
        # holds up no other.
        connector = aiohttp.TCPConnector(
            resolver=guarded, use_dns_cache=False, limit=0, force_close=True
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            headers={"user-agent": self._agent},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def send(self, url: str, secret: str, notice: Notice) -> Outcome:
        """Send a notice and say what came of it; raises nothing of the network's."""
        assert self._session is not None, "use it as `async with`"
        try:  # again: it may be older than the check, and what counts as an address is libc's
            target = URL(checked_target(url, self._allow_private))
        except TargetInvalid as error:
            return Refused(error.reason)
        body = _body(notice)
        headers = signed_headers(secret, notice.id, int(self._clock.time_s()), body)
        headers["content-type"] = "application/json"
        try:
            async with self._session.post(
                target, data=body, headers=headers, allow_redirects=False
            ) as answer:
                return self._outcome(answer.status, answer.headers.get("retry-after", ""))
        except AddressRefused as error:
            return Refused(str(error))
        except aiohttp.ClientError as error:
            if isinstance(error.__cause__, AddressRefused):
                return Refused(str(error.__cause__))
            return TryAgain(type(error).__name__)
        except TimeoutError:
            return TryAgain(f"no answer within {self._timeout.total:g} s")
        except asyncio.IncompleteReadError:
            return TryAgain("the answer broke off")

    def _outcome(self, status: int, retry_after: str) -> Outcome:
        if 200 <= status < 300:
            return Sent(status)
        if status in _AGAIN or status >= 500:
            return TryAgain(f"HTTP {status}", self._wait_s(retry_after))
        return Refused(f"HTTP {status}")

    def _wait_s(self, retry_after: str) -> float | None:
        """Return the seconds that a `Retry-After` asks for, an hour at most."""
        seconds = whole_number(retry_after)
        if seconds is not None:
            return min(float(seconds), _LONGEST_WAIT_S)
        at = _date(retry_after)
        if at is None:
            return None
        return min(max(0.0, at.timestamp() - self._clock.time_s()), _LONGEST_WAIT_S)


def _date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except ValueError:
        return None


def _body(notice: Notice) -> bytes:
    told: dict[str, Any] = {
        "title": notice.title,
        "text": notice.text,
        "severity": notice.severity,
    }
    body = {
        "id": notice.id,
        "type": notice.kind,
        "timestamp": notice.at,
        "data": told | notice.facts,
    }
    return orjson.dumps(body)
