"""yfinance under guard: its requests go through our budget, and only sense gets back to it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import requests

from infra.clock import Clock
from infra.errors import FinstageError, SourceMalformed, SourceUnavailable, SymbolUnknown
from infra.metrics import UPSTREAM_REQUESTS
from infra.sources.base import Lane
from infra.sources.yahoo.endpoints import MEANS, checked, endpoint_of, is_crumb, is_refusal
from infra.sources.yahoo.http import UPSTREAM, Hosts
from infra.threads import Threads, is_wanted

T = TypeVar("T")

_AGENT = "finstage (self-hosted market data; yfinance)"


class Spend(Protocol):
    """Budget.run."""

    def __call__(
        self, call: Callable[[], Awaitable[T]], lane: Lane, of: str | None
    ) -> Awaitable[T]:
        """Make one request when its turn comes."""


class _CrumbRefused(Exception):
    """Raised through yfinance when Yahoo gave no crumb, or does not take the one it gave."""

    def __init__(self, crumb: str | None) -> None:
        super().__init__(crumb)
        self.crumb = crumb


class _Over(SourceUnavailable):
    """Raised through yfinance when nobody waits for its answer any more."""


class GuardedYfinance:
    """yfinance with one session, whose every request is checked before yfinance sees its answer.

    So yfinance meets neither a 429, which it would keep as its crumb, nor an error in which it
    would read "no news". Its own second try with other cookies, made for any status from 400 on,
    never happens either: a crumb that is refused is fetched once more, as YahooHttp does.

    A request is sent by one of `senders`, so that what hangs is never a thread that holds
    yfinance's lock. Its singleton is this object's from the first question until `close`: there
    can be one of them in a process. State: cookies and crumb, in memory only.
    """

    def __init__(
        self,
        spend: Spend,
        senders: Threads,
        clock: Clock,
        timeout_s: float,
        url: str | None = None,
        cache_dir: Path | None = None,
    ) -> None:
        self._spend = spend
        self._senders = senders
        self._clock = clock
        self._timeout_s = timeout_s
        self._url = url
        self._cache_dir = cache_dir
        self._opening = threading.Lock()
        self._asked = threading.local()  # `of`: what this thread's question is about
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._session: Any = None
        self._data: Any = None
        self._is_closed = False

    def bind(self) -> None:
        """Take the running loop for the one whose budget is spent."""
        self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        """Refuse all further requests and give the singleton back."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._data is not None:
            _forget_singleton(self._data)
        if isinstance(self._session, _Rehosted):
            self._session.close()  # yfinance's own belongs to the threads that use it

    # -- questions, asked in a thread --------------------------------------------------------

    def answer(self, question: Callable[[GuardedYfinance], T], of: str) -> T:
        """Return what `question` finds out; with a new crumb if the one at hand is refused.

        `of`: the symbol or text that it is about, for the budget.
        Blocks: only for a thread of `Threads`. Raises SourceError or SymbolUnknown.
        """
        self._open()
        self._asked.of = of
        self._data.cache_get.cache_clear()  # or it would give yesterday's answers for ever
        for is_last in (False, True):
            try:
                return question(self)
            except _CrumbRefused as refused:
                self._forget(refused.crumb)
                if is_last:
                    break
            except FinstageError:
                raise
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                raise SourceMalformed("yfinance", reason[:200]) from None
        raise SourceUnavailable(
            "Yahoo refuses the crumb that it gave, or gives none", "unauthorized"
        )

    def news(self, symbol: str, count: int) -> list[Any]:
        """Return the items of the symbol's stream."""
        items: list[Any] = self._ticker(symbol).get_news(count=count)
        return items

    def info(self, symbol: str) -> dict[str, Any]:
        """Return yfinance's `info`: quoteSummary, the quote and the trailing PEG ratio."""
        info: dict[str, Any] = self._ticker(symbol).get_info()
        kind = info.get("quoteType")
        if kind is None:
            raise SourceMalformed("no_result", f"nothing about {symbol} in the answer")
        if kind == "NONE":  # a symbol that is gone: Yahoo keeps its name
            raise SymbolUnknown(symbol)
        return info

    def calendar(self, symbol: str) -> dict[str, Any]:
        """Return quoteSummary's calendarEvents; {} for a symbol that has none.

        Not yfinance's `calendar`: that makes dates of it by the machine's time zone.
        """
        url = f"{Hosts().query}/v10/finance/quoteSummary/{symbol}"
        query = {"modules": "calendarEvents", "formatted": "false"}
        try:
            answer = self._data.get_raw_json(url, params=query)
        except SymbolUnknown:
            return {}  # Yahoo's words for a symbol without these facts are the same
        found = answer["quoteSummary"]["result"]
        events = found[0].get("calendarEvents") if found else None
        return events if isinstance(events, dict) else {}

    def search(self, text: str, count: int) -> list[Any]:
        """Return the rows of symbols that `text` may mean."""
        from yfinance import Search

        found: list[Any] = Search(
            text,
            max_results=count,
            news_count=0,
            lists_count=0,
            include_cb=False,
            recommended=0,
            session=self._session,
        ).quotes
        return found

    def _ticker(self, symbol: str) -> Any:
        from yfinance import Ticker
        from yfinance.utils import is_isin

        if is_isin(symbol):  # yfinance would answer for a symbol that nobody named
            raise SymbolUnknown(symbol)
        return Ticker(symbol, session=self._session)

    # -- the session -------------------------------------------------------------------------

    def _open(self) -> None:
        """Make the session and yfinance's singleton, once."""
        with self._opening:
            if self._data is not None:
                return
            # Half a second or more, and 90 MB: for who asks, in the thread of the first question.
            from yfinance import cache
            from yfinance.data import YfData

            if self._cache_dir is not None:
                cache.set_cache_location(str(self._cache_dir))
            _forget_singleton()
            # A cookie that was stored is used until it expires, even if Yahoo refuses it.
            cache._CookieCacheManager._Cookie_cache = cache._CookieCacheDummy()
            data = YfData(session=_Rehosted(self._url)) if self._url else YfData()
            self._session = data._session
            # The session is of one of two libraries: only its instance can be guarded.
            self._session.request = partial(self._request, self._session.request)
            self._data = data

    def _forget(self, crumb: str | None) -> None:
        """Drop cookies and crumb, unless another thread has a newer crumb already."""
        with self._data._cookie_lock:
            if self._data._crumb in (None, crumb):
                self._session.cookies.clear()
                self._data._cookie = self._data._crumb = None

    def _request(self, send: Callable[..., Any], method: str, url: str, **options: Any) -> Any:
        """Stand in for the session's own method; what it raises comes out of yfinance as it is."""
        endpoint = endpoint_of(url)
        ask = partial(send, method, url, **options | {"timeout": self._timeout_s})
        try:
            answer = self._sent(endpoint, lambda: checked(ask, url, self._clock.time_s()))
        except SourceUnavailable as error:
            if endpoint != "cookie" or isinstance(error, _Over):
                raise
            raise ConnectionError(error.message) from None  # it knows another way to a cookie
        if endpoint == "cookie":
            self._data._cookie = True  # or it would be fetched again for every request
        if endpoint == "crumb" and not is_crumb(answer):
            raise _CrumbRefused(None)
        if is_refusal(answer) and endpoint not in MEANS:
            raise _CrumbRefused((options.get("params") or {}).get("crumb"))
        return answer

    def _sent(self, endpoint: str, send: Callable[[], Any]) -> Any:
        if self._is_closed or not is_wanted():
            raise _Over("nobody waits for the answer any more")
        assert self._loop is not None
        of = None if endpoint in MEANS else self._asked.of
        future = asyncio.run_coroutine_threadsafe(self._spent(endpoint, of, send), self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise _Over("the connection to Yahoo was closed") from None

    # -- on the loop -------------------------------------------------------------------------

    async def _spent(self, endpoint: str, of: str | None, send: Callable[[], Any]) -> Any:
        self._senders.check()  # not a failure of the budget's, to be tried again after a while
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            call = partial(self._counted, endpoint, send)
            return await self._spend(call, Lane.INTERACTIVE, of)
        finally:
            self._tasks.discard(task)

    async def _counted(self, endpoint: str, send: Callable[[], Any]) -> Any:
        result = "bug"
        try:
            answer = await self._senders.run(send, self._timeout_s)
            result = str(answer.status_code)
            return answer
        except FinstageError as error:
            result = error.code
            raise
        finally:
            UPSTREAM_REQUESTS.labels(UPSTREAM, endpoint, result).inc()


class _Rehosted(requests.Session):
    """A session that finds all of Yahoo's hosts at one URL; it says who asks."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.trust_env = False  # as aiohttp does for the other questions
        self.headers["User-Agent"] = _AGENT
        self._base = url.rstrip("/")

    def request(self, method: Any, url: Any, *args: Any, **options: Any) -> requests.Response:
        asked = urlsplit(str(url))
        query = f"?{asked.query}" if asked.query else ""
        options["allow_redirects"] = False  # they would lead away from there
        return super().request(method, f"{self._base}{asked.path}{query}", *args, **options)


def _forget_singleton(only: Any = None) -> None:
    """Empty yfinance's state, whose ever it is, or `only` if it is of this singleton."""
    from yfinance.cache import _CookieCacheManager
    from yfinance.data import SingletonMeta, YfData

    if only is not None and SingletonMeta._instances.get(YfData) is not only:
        return
    SingletonMeta._instances.pop(YfData, None)
    YfData.cache_get.cache_clear()
    _CookieCacheManager._Cookie_cache = None
