"""Documents and happenings, on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.db.happenings import Happening
from infra.db.store import Store
from infra.db.unit import Unit
from tests.databases import KINDS, database

NOW = datetime(2026, 3, 4, 15, 30, 12, 345678, tzinfo=UTC)


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with database(request.param, tmp_path) as url:
        made = Store(url)
        await made.migrate()
        yield made
        await made.close()


async def test_a_document_takes_the_place_of_what_was_there(store: Store) -> None:
    async def work(unit: Unit) -> None:
        await unit.documents.put("rule", "a", {"x": 1.5, "names": ["é", None]}, NOW)
        await unit.documents.put("rule", "b", [1], NOW)
        await unit.documents.put("other", "a", 7, NOW)
        await unit.documents.put("rule", "a", {"x": 2}, NOW + timedelta(seconds=1))

    await store.write(work)

    assert await store.read(lambda unit: unit.documents.all("rule")) == {"a": {"x": 2}, "b": [1]}
    assert await store.read(lambda unit: unit.documents.get("other", "a")) == 7
    assert await store.read(lambda unit: unit.documents.get("other", "b")) is None
    assert await store.write(lambda unit: unit.documents.remove("rule", "b"))
    assert not await store.write(lambda unit: unit.documents.remove("rule", "b"))
    assert await store.read(lambda unit: unit.documents.all("rule")) == {"a": {"x": 2}}


async def test_what_happened_comes_back_in_order_and_old_things_go(store: Store) -> None:
    seconds = [timedelta(seconds=n) for n in range(5)]
    happened = [Happening("seen", "ab"[n % 2], NOW + seconds[n], {"n": n}) for n in range(5)]
    await store.write(lambda unit: unit.happenings.add(happened))
    await store.write(lambda unit: unit.happenings.add([Happening("done", "a", NOW, None)]))

    async def since(start: datetime, limit: int, subject: str | None = None) -> list[int]:
        found = await store.read(lambda unit: unit.happenings.since("seen", start, limit, subject))
        return [one.body["n"] for one in found]

    assert await since(NOW, 10) == [0, 1, 2, 3, 4]
    assert await since(NOW + seconds[2], 10) == [2, 3, 4]
    assert await since(NOW, 2) == [3, 4]
    assert await since(NOW, 10, "b") == [1, 3]
    forgotten = await store.write(lambda unit: unit.happenings.forget("seen", NOW + seconds[3]))
    assert forgotten == 3
    assert await since(NOW, 10) == [3, 4]
    assert len(await store.read(lambda unit: unit.happenings.since("done", NOW, 10))) == 1
