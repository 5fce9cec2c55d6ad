"""News of the monitored symbols, with a language and a sentiment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from infra.clock import utc
from infra.db.contents import Content
from infra.db.store import BATCH
from infra.errors import FinstageError, NotBuilt
from infra.sentiment import language_of, sentiment_of
from infra.sources.base import NewsItem
from pipelines.jobs.base import Job, JobContext, summary
from pipelines.jobs.spec import JobSpec, every

_HEADLINES = 20


def keeping(*categories: str) -> Callable[[JobContext], Awaitable[str]]:
    """Return the work that keeps what the source has of news about symbols of some categories."""

    async def keep(context: JobContext) -> str:
        symbols = await context.monitored(*categories)
        added, failed = 0, {}
        for symbol in symbols:
            try:
                items = await context.feed.news(symbol, _HEADLINES)
            except NotBuilt as error:
                return error.message
            except FinstageError as error:
                failed[symbol] = error
                continue
            now = context.clock.time_s()
            rows = [content_of(symbol, item, now) for item in items]
            added += await context.store.write(
                lambda unit, rows=rows: unit.contents.add(rows),  # type: ignore[misc]
                limit=BATCH,
            )
        return summary(len(symbols) - len(failed), f"symbols, {added} new articles", failed)

    return keep


def content_of(symbol: str, item: NewsItem, now_s: float) -> Content:
    """Return an article as it is kept."""
    text = f"{item.title}. {item.summary or ''}"
    language = language_of(text)
    return Content(
        symbol,
        item.source,
        item.url,
        item.title,
        item.summary,
        None if item.publisher is None else item.publisher[:255],
        language,
        sentiment_of(text) if language == "en" else None,
        utc(item.published_at_ns / 1e9),
        utc(now_s),
    )


def _job(name: str, title: str, minutes: int, *categories: str) -> Job:
    spec = JobSpec(name, title, every(minutes, 10), timeout_s=1_200, grace_s=3_600)
    return Job(spec, keeping(*categories))


JOBS = (
    _job("news.indices", "Keep news about indices.", 90, "index"),
    _job("news.futures", "Keep news about futures.", 120, "futures"),
    _job(
        "news.stocks", "Keep news about stocks and funds.", 180, "stock", "etf_long", "etf_short"
    ),
)
