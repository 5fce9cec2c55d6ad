"""News, figures and search of Yahoo, asked through yfinance in threads that nobody waits for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from infra.clock import Clock
from infra.errors import SourceMalformed
from infra.sources.base import Found, Fundamentals, NewsItem
from infra.sources.rejections import Rejections
from infra.sources.yahoo.answers import NAME, text
from infra.sources.yahoo.guard import GuardedYfinance, Spend
from infra.sources.yahoo.http import UPSTREAM
from infra.sources.yahoo.pages import calendar_figures, figures, found_symbols, news_items
from infra.threads import Threads

T = TypeVar("T")

THREADS = 4  # for questions, and as many again that send their requests
REQUEST_TIMEOUT_S = 15.0
QUESTION_TIMEOUT_S = 60.0  # of up to six requests, each after its turn came


class Scraped:
    """What yfinance is asked. `url` puts another server in the place of all of Yahoo's hosts.

    Each request is one of `spend`, Budget.run, which learns from a refusal as from any other. At
    most `threads` questions are under way; `request_timeout_s` ends a request and
    `question_timeout_s` a question, its time in line not counted. All methods raise SourceError;
    SourceUnavailable at once while as many requests hang as there are threads.

    One per process at a time, see GuardedYfinance, and for one event loop.
    """

    def __init__(
        self,
        clock: Clock,
        spend: Spend,
        url: str | None = None,
        *,
        cache_dir: Path | None = None,
        threads: int = THREADS,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
        question_timeout_s: float = QUESTION_TIMEOUT_S,
    ) -> None:
        self._clock = clock
        self._timeout_s = question_timeout_s
        self._questions = Threads("Yahoo", threads, clock)
        self._senders = Threads("Yahoo", threads, clock)
        self._yfinance = GuardedYfinance(
            spend, self._senders, clock, request_timeout_s, url, cache_dir
        )
        self._rejections = Rejections(UPSTREAM, clock)

    async def news(self, symbol: str, count: int) -> tuple[NewsItem, ...]:
        """Return the latest headlines, newest first, at most `count`, each id once.

        Nothing for an unknown symbol as for one that nobody writes of: Yahoo tells no difference.
        """
        rows = await self._ask(symbol, lambda yahoo: yahoo.news(symbol, count))
        rejected: Counter[str] = Counter()
        items = news_items(rows, symbol, count, self._now_ns(), rejected)
        self._count(rejected, symbol)
        return items

    async def search(self, wanted: str, count: int) -> tuple[Found, ...]:
        """Return symbols that the text `wanted` may mean, best first."""
        if not wanted.strip() or count < 1:
            return ()
        rows = await self._ask(wanted, lambda yahoo: yahoo.search(wanted, count))
        rejected: Counter[str] = Counter()
        found = found_symbols(rows, count, self._now_ns(), rejected)
        self._count(rejected, wanted)
        return found

    async def fundamentals(self, symbol: str) -> Fundamentals:
        """Return the numbers and texts of yfinance's `info`, by Yahoo's names, and the calendar.

        `info` is what Yahoo knows of profile, statistics, finances, price and trailing PEG ratio
        (`marketCap`, `trailingPE`, `sector`, ...); see `figures`. The calendar adds
        `earnings_date`, `earnings_date_end`, `ex_dividend_date` and `dividend_date`, ISO dates,
        and `earningsAverage`, `revenueAverage` and their Low and High; see `calendar_figures`.
        A figure that Yahoo has not is None or absent. Costs four requests.

        Raises SymbolUnknown.
        """
        info, events = await self._ask(
            symbol, lambda yahoo: (yahoo.info(symbol), yahoo.calendar(symbol))
        )
        rejected: Counter[str] = Counter()
        zone_name = text(info.get("exchangeTimezoneName"))
        values = figures(info) | calendar_figures(events, zone_name, rejected)
        self._count(rejected, symbol)
        return Fundamentals(symbol, values, NAME, self._now_ns())

    async def close(self) -> None:
        """Refuse everything from now on, what is under way too; wait for no thread."""
        self._questions.close()
        self._senders.close()
        await self._yfinance.close()

    async def _ask(self, of: str, question: Callable[[GuardedYfinance], T]) -> T:
        self._yfinance.bind()
        try:
            return await self._questions.run(
                lambda: self._yfinance.answer(question, of), self._timeout_s
            )
        except SourceMalformed as error:
            self._rejections.count(error.kind, error.reason)
            raise

    def _count(self, rejected: Counter[str], detail: str) -> None:
        for kind, number in rejected.items():
            self._rejections.count(kind, detail, number)

    def _now_ns(self) -> int:
        return int(self._clock.time_s() * 1e9)
