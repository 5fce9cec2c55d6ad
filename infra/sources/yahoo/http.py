"""Requests to Yahoo: one session, its cookie and crumb, and errors by what they mean."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import aiohttp

from infra.clock import Clock
from infra.digits import whole_number
from infra.errors import FinstageError, SourceLimited, SourceMalformed, SourceUnavailable
from infra.flights import SingleFlight
from infra.metrics import UPSTREAM_REQUESTS
from infra.sources.base import Lane
from infra.sources.budget import Budget
from infra.sources.yahoo.causes import unavailable

UPSTREAM = "yahoo"

# It says who asks: no browser is pretended.
_AGENT = "finstage (self-hosted market data; aiohttp)"
_TIMEOUT = aiohttp.ClientTimeout(total=15.0, sock_connect=5.0)
_CRUMB = re.compile(r"[!-;=?-z|~]{5,40}")  # printable, no space, no markup, no JSON


@dataclass(frozen=True, slots=True)
class Hosts:
    """Where Yahoo's parts are."""

    cookie: str = "https://fc.yahoo.com/"
    crumb: str = "https://query1.finance.yahoo.com"
    query: str = "https://query2.finance.yahoo.com"

    @classmethod
    def at(cls, url: str) -> Hosts:
        """Return the hosts of a server in Yahoo's place; an empty URL is Yahoo itself."""
        base = url.rstrip("/")
        return cls(base + "/", base, base) if base else cls()


class YahooHttp:
    """GET with cookie and crumb, within the budget.

    The crumb is fetched when first needed, once for all who wait, and again once after a 401.
    Nothing but a plausible crumb is ever kept. State: the session's cookies and the crumb.
    """

    def __init__(self, hosts: Hosts, budget: Budget, clock: Clock) -> None:
        self._hosts = hosts
        self._budget = budget
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._crumb = ""
        self._flights = SingleFlight()

    @property
    def session(self) -> aiohttp.ClientSession:
        """Return the session, opened when first needed: it belongs to the running loop."""
        if self._session is None or self._session.closed:
            jar = aiohttp.CookieJar(unsafe=True)  # a server in Yahoo's place may have no name
            agent = {"User-Agent": _AGENT, "Accept": "application/json,text/plain,*/*"}
            self._session = aiohttp.ClientSession(
                cookie_jar=jar, headers=agent, timeout=_TIMEOUT, raise_for_status=False
            )
        return self._session

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    async def get(
        self,
        path: str,
        query: Mapping[str, str],
        endpoint: str,
        lane: Lane,
        crumb: bool = False,
        of: str | None = None,
    ) -> bytes:
        """Return the body of a 200, or of a 4xx that speaks of the question itself.

        `of`: see Budget.run.
        Raises SourceLimited, SourceUnavailable or SourceMalformed.
        """
        if not crumb:
            return (await self._counted(self._hosts.query + path, query, endpoint, lane, of))[1]
        for is_last in (False, True):
            asked = {**query, "crumb": await self._valid_crumb(lane)}
            status, body = await self._counted(self._hosts.crumb + path, asked, endpoint, lane, of)
            if status not in (401, 403):
                return body
            if self._crumb == asked["crumb"]:
                self._crumb = ""
            if is_last:
                break
        raise SourceUnavailable("Yahoo refuses the crumb that it gave", "unauthorized")

    async def _valid_crumb(self, lane: Lane) -> str:
        if not self._crumb:
            await self._flights.run("crumb", lambda: self._renew(lane), lane)
        return self._crumb

    async def _renew(self, lane: Lane) -> None:
        # A 404 that sets the cookie: that page is there for nothing else.
        await self._counted(self._hosts.cookie, {}, "cookie", lane)
        url = self._hosts.crumb + "/v1/test/getcrumb"
        status, body = await self._counted(url, {}, "crumb", lane)
        text = body.decode("utf-8", "replace").strip()
        if status != 200 or not _CRUMB.fullmatch(text):
            raise SourceUnavailable("Yahoo gave no crumb", "unauthorized")
        self._crumb = text

    async def _counted(
        self,
        url: str,
        query: Mapping[str, str],
        endpoint: str,
        lane: Lane,
        of: str | None = None,
    ) -> tuple[int, bytes]:
        async def send() -> tuple[int, bytes]:
            result = "bug"
            try:
                answer = await self._send(url, query, endpoint)
                result = str(answer[0])
                return answer
            except FinstageError as error:
                result = error.code
                raise
            except asyncio.CancelledError:
                result = "cancelled"
                raise
            finally:
                UPSTREAM_REQUESTS.labels(UPSTREAM, endpoint, result).inc()

        return await self._budget.run(send, lane, of)

    async def _send(self, url: str, query: Mapping[str, str], endpoint: str) -> tuple[int, bytes]:
        try:
            async with self.session.get(url, params=query, allow_redirects=False) as answer:
                body = await answer.read()
                _check(answer, body, endpoint, self._clock.time_s())
                return answer.status, body
        except (aiohttp.ClientPayloadError, aiohttp.ClientResponseError) as error:
            raise SourceMalformed("truncated", type(error).__name__) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unavailable(error) from None


def _check(answer: aiohttp.ClientResponse, body: bytes, endpoint: str, now_s: float) -> None:
    status = answer.status
    if status == 429:
        raise SourceLimited(UPSTREAM, _retry_after_s(answer.headers, now_s))
    if status >= 500:
        raise SourceUnavailable(f"Yahoo answers {status}", "failing")
    if endpoint == "cookie":
        return
    if 300 <= status < 400:
        host = urlsplit(answer.headers.get("Location", "")).hostname or "another page"
        raise SourceUnavailable(f"Yahoo sends us to {host} instead of answering", "failing")
    is_page = "html" in answer.headers.get("Content-Type", "") or body[:1] == b"<"
    if is_page and status < 400:
        raise SourceMalformed("html", "a page instead of data")


def _retry_after_s(headers: Mapping[str, str], now_s: float) -> float:
    """Return what Retry-After asks for, seconds or a date; 0 where it says nothing."""
    text = headers.get("Retry-After", "").strip()
    seconds = whole_number(text)
    if seconds is not None:
        return float(seconds)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
    except ValueError:
        return 0.0
