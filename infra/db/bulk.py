"""Many bars at once: a transaction for each part, so that nobody else waits long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from infra.bars import IMPORT, Bars
from infra.db.store import BATCH, BULK, QUESTION, Limit, Store
from infra.db.stored_bars import as_bars, chunks
from infra.db.unit import Unit
from infra.errors import ChunkFailed, NotImported, StoreError

CHUNK_ROWS = 1_000
PAGE_ROWS = 50_000  # read at once: about a tenth of what a question has time for

Progress = Callable[[int], None]  # gets the number of rows committed so far


@dataclass(slots=True)
class ImportCount:
    """What became of the rows of an import."""

    new: int = 0
    replaced: int = 0
    unchanged: int = 0
    kept_live: int = 0  # where a source of ours has the bar

    @property
    def accepted(self) -> int:
        """Return the rows that are in the store now as they were given."""
        return self.new + self.replaced + self.unchanged


def _silent(_: int) -> None:
    return


async def read_bars(
    store: Store,
    symbol: str,
    interval: str,
    source: str | None = None,
    limit: Limit = QUESTION,
) -> Bars:
    """Return all bars, however many, oldest first; raises StoreError.

    They are read in pages, of which each has the limit for itself: a million minutes take longer
    than a question may. Bars that are written meanwhile may be in it or not.
    """
    pages: list[Bars] = []
    start_ns: int | None = None
    while True:

        async def read(unit: Unit, start_ns: int | None = start_ns) -> Sequence[Sequence[Any]]:
            return await unit.bars.page(symbol, interval, source, start_ns, PAGE_ROWS)

        rows = await store.read(read, limit)
        # In a thread, so that whoever else is served by this loop does not wait for the columns.
        page = await asyncio.to_thread(as_bars, rows)
        pages.append(page)
        if len(page) < PAGE_ROWS:
            return await asyncio.to_thread(Bars.joined, pages)
        start_ns = int(page.opened_at_ns[-1]) + 1


async def upsert_bars(
    store: Store,
    symbol: str,
    interval: str,
    source: str,
    bars: Bars,
    progress: Progress = _silent,
) -> int:
    """Write bars in chunks of 1,000, each committed by itself; return how many.

    The same call again is safe. Raises ChunkFailed, which names the rows that are not written;
    those before them stay.
    """
    for first, chunk in chunks(bars, CHUNK_ROWS):

        async def write(unit: Unit, chunk: Bars = chunk) -> None:
            await unit.bars.upsert(symbol, interval, source, chunk)

        try:
            await store.write(write, limit=BULK)
        except StoreError as error:
            raise _chunk_failed(first, chunk, error) from error
        progress(first + len(chunk))
    return len(bars)


async def import_bars(
    store: Store,
    symbol: str,
    interval: str,
    bars: Bars,
    progress: Progress = _silent,
    dry_run: bool = False,
) -> ImportCount:
    """Write a user's bars as `upsert_bars` does; return what became of them.

    `dry_run` only counts.
    """
    total = ImportCount()
    for first, chunk in chunks(bars, CHUNK_ROWS):

        async def write(unit: Unit, chunk: Bars = chunk) -> ImportCount:
            count = _count(chunk, await unit.bars.held(symbol, interval, chunk))
            if not dry_run:
                await unit.bars.upsert(symbol, interval, IMPORT, chunk)
            return count

        try:
            count = await (store.read if dry_run else store.write)(write, limit=BULK)
        except StoreError as error:
            raise _chunk_failed(first, chunk, error) from error
        total.new += count.new
        total.replaced += count.replaced
        total.unchanged += count.unchanged
        total.kept_live += count.kept_live
        progress(first + len(chunk))
    return total


async def delete_import(
    store: Store, symbol: str, intervals: Sequence[str], deleted_at: datetime
) -> dict[str, int]:
    """Delete what was imported of a symbol, at some intervals or at all; return bars by interval.

    It is served no more from the first of these transactions on. Raises NotImported.
    """

    async def note(unit: Unit) -> list[str]:
        noted = {i: last.is_there for (_, i), last in (await unit.imports.of(symbol)).items()}
        left = {c.interval for c in await unit.bars.coverage(symbol) if c.source == IMPORT}
        chosen = sorted({i for i, is_there in noted.items() if is_there} | left)
        chosen = [i for i in chosen if not intervals or i in intervals]
        for interval in chosen:
            await unit.imports.note_deleted(symbol, interval, deleted_at)
        return chosen

    counts = dict.fromkeys(await store.write(note, limit=BATCH), 0)
    if not counts:
        raise NotImported(symbol, intervals)
    for interval in counts:

        async def delete(unit: Unit, interval: str = interval) -> int:
            return await unit.bars.delete(symbol, interval, IMPORT, CHUNK_ROWS)

        while gone := await store.write(delete, limit=BULK):
            counts[interval] += gone
    return counts


def _chunk_failed(first: int, chunk: Bars, error: StoreError) -> ChunkFailed:
    return ChunkFailed(first, first + len(chunk) - 1, first, error.message)


def _count(bars: Bars, held: dict[int, tuple[object, ...]]) -> ImportCount:
    count = ImportCount()
    names = ("open", "high", "low", "close", "volume")
    seconds = (bars.opened_at_ns // 10**9).tolist()
    values = zip(*(np.asarray(getattr(bars, name)).tolist() for name in names), strict=True)
    for opened_at_s, row in zip(seconds, values, strict=True):
        there = held.get(opened_at_s)
        if there is None:
            count.new += 1
        elif there[0] != IMPORT:
            count.kept_live += 1
        elif there[1:] == row:
            count.unchanged += 1
        else:
            count.replaced += 1
    return count
