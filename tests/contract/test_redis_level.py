"""The shared level in a real Redis: the same promises, and nothing raised when it is away."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.caches.base import Found, Lifetime
from infra.caches.changes import Changes, Mark
from infra.caches.codec import decoded, encoded
from infra.caches.layered import Keeping, NamedCache, SyncShared
from infra.caches.memory import MemoryCache
from infra.caches.redis_level import RedisLevel
from tests.conftest import needed
from tests.service import free_port


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A Redis of this module's own, which a test may kill."""
    needed("redis-server", shutil.which("redis-server") is not None)
    port = free_port()
    folder = tmp_path_factory.mktemp("redis")
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "",
               "--dir", str(folder)]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    yield f"redis://127.0.0.1:{port}/0", process
    process.kill()
    process.wait()


@pytest.fixture
async def level(server: tuple[str, subprocess.Popen[bytes]]) -> AsyncIterator[RedisLevel]:
    url, _ = server
    level = RedisLevel(url)
    for _ in range(100):  # it starts
        level._away_until_s = 0.0
        await level.clear(None)
        if level.state.is_there:
            break
        await asyncio.sleep(0.05)
    await level.clear(None)
    yield level
    await level.close()


def value(found: Found | None) -> object:
    return None if found is None else decoded(found.value)


async def test_a_value_comes_back_with_its_lifetime(level: RedisLevel) -> None:
    lifetime = Lifetime(60.0, 5.0, ("AAPL",), Mark("e", 7))

    assert await level.fetch("c", "k", 5.0) is None
    assert await level.give("c", "k", encoded({"close": 1.5}), lifetime)
    found = await level.fetch("c", "k", 5.0)

    assert value(found) == {"close": 1.5}
    assert found is not None
    assert found.lifetime == lifetime
    assert 55 < found.fresh_s <= 60


async def test_lifetimes_of_zero_and_none(level: RedisLevel) -> None:
    assert not await level.give("c", "never", b"1", Lifetime(0.0))
    assert await level.give("c", "ever", encoded(1), Lifetime(None))
    assert await level.give("c", "short", encoded(1), Lifetime(0.05))
    await asyncio.sleep(0.1)

    assert await level.fetch("c", "never", 0.0) is None
    assert value(await level.fetch("c", "ever", 0.0)) == 1
    assert await level.fetch("c", "short", 0.0) is None


async def test_two_processes_make_it_once(
    level: RedisLevel, server: tuple[str, subprocess.Popen[bytes]]
) -> None:
    other = RedisLevel(server[0])
    assert await level.fetch("c", "once", 10.0) is None
    waiting = [asyncio.create_task(other.fetch("c", "once", 10.0)) for _ in range(5)]
    await asyncio.sleep(0.1)
    waited = [task.done() for task in waiting]
    await level.give("c", "once", encoded("made"), Lifetime(60.0))
    found = await asyncio.gather(*waiting)
    await other.close()

    assert not any(waited)
    assert [value(one) for one in found] == ["made"] * 5


async def test_who_is_late_ends_nobody_elses_claim(
    level: RedisLevel, server: tuple[str, subprocess.Popen[bytes]]
) -> None:
    second, third = RedisLevel(server[0]), RedisLevel(server[0])
    assert await level.fetch("c", "late", 0.05) is None
    await asyncio.sleep(0.1)  # its claim runs out
    assert await second.fetch("c", "late", 10.0) is None

    await level.release("c", "late")
    await level.give("c", "late", b"", Lifetime(0.0))
    asking = asyncio.create_task(third.fetch("c", "late", 10.0))
    await asyncio.sleep(0.2)
    has_claimed = asking.done()
    await second.give("c", "late", encoded("made"), Lifetime(60.0))

    assert not has_claimed
    assert value(await asking) == "made"
    await second.close()
    await third.close()


async def test_a_lifetime_of_zero_takes_the_older_value_away(level: RedisLevel) -> None:
    await level.give("c", "zero", encoded("old"), Lifetime(60.0))

    assert not await level.give("c", "zero", encoded("new"), Lifetime(0.0, stale_s=5.0))
    assert await level.fetch("c", "zero", 0.0) is None


async def test_forgetting_a_result_forgets_it_where_processes_share_it(level: RedisLevel) -> None:
    cache = NamedCache(MemoryCache("c", "near", 10, 2**20, 60.0), Changes())
    cache.attach(level, None)
    runs = []

    async def make() -> int:
        runs.append(1)
        return len(runs)

    first = [await cache.get_or_await("forgotten", make, Keeping()) for _ in range(2)]
    assert cache.forget("forgotten")
    again = await cache.get_or_await("forgotten", make, Keeping())

    assert (first, again) == ([1, 1], 2)


async def test_so_does_plain_code(level: RedisLevel) -> None:
    loop = asyncio.get_running_loop()

    def run(ask: Callable[[], Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(ask(), loop).result(10)

    cache = NamedCache(MemoryCache("c", "near", 10, 2**20, 60.0), Changes())
    cache.attach(level, SyncShared(level, run))
    runs = []

    def make() -> int:
        runs.append(1)
        return len(runs)

    def work() -> list[object]:
        made = [cache.get_or_set("plain", make), cache.forget("plain")]
        return [*made, cache.get_or_set("plain", make), cache.forget("never")]

    assert await asyncio.to_thread(work) == [1, True, 2, False]


async def test_clearing_takes_one_cache_only(level: RedisLevel) -> None:
    for cache in ("a-b", "a", "other"):
        for number in range(3):
            await level.give(cache, str(number), encoded(number), Lifetime(None))

    assert await level.clear("a-b") == 3
    assert value(await level.fetch("other", "1", 0.0)) == 1
    assert await level.clear(None) == 6


async def test_what_another_program_wrote_is_no_value(level: RedisLevel) -> None:
    client = level._client()
    await client.set("finstage:c:strange", b"\x80\x04\x95pickle")

    assert await level.fetch("c", "strange", 0.0) is None


async def test_redis_away_costs_a_miss_and_raises_nothing(tmp_path: Path) -> None:
    level = RedisLevel(f"redis://127.0.0.1:{free_port()}/0")
    near = MemoryCache("c", "near", 10, 2**20, 60.0)
    cache = NamedCache(near, Changes())
    cache.attach(level, None)
    runs = []

    async def make() -> int:
        runs.append(1)
        return 7

    began_s = time.monotonic()
    answers = [await cache.get_or_await(f"k{n % 2}", make, Keeping()) for n in range(100)]

    await level.close()

    assert answers == [7] * 100
    assert len(runs) == 2
    assert time.monotonic() - began_s < 5
    assert not level.state.is_there
    assert level.state.failures >= 1
    assert "password" not in level.state.backend
