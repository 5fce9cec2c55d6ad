"""News, figures and search of Yahoo: not there yet."""

from __future__ import annotations

from typing import Any

from infra.errors import NotBuilt
from infra.sources.base import Found, Fundamentals, NewsItem


class Scraped:
    """What is asked of Yahoo's pages; every question raises NotBuilt."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    async def news(self, symbol: str, count: int) -> tuple[NewsItem, ...]:
        """Raise NotBuilt."""
        raise NotBuilt("news is not in this version")

    async def fundamentals(self, symbol: str) -> Fundamentals:
        """Raise NotBuilt."""
        raise NotBuilt("fundamentals are not in this version")

    async def search(self, text: str, count: int) -> tuple[Found, ...]:
        """Raise NotBuilt."""
        raise NotBuilt("search is not in this version")

    async def close(self) -> None:
        """Do nothing."""
