"""A rolling restart under load: nobody's request fails, sockets are told and come back."""

from __future__ import annotations

import asyncio
import random
import re
import sqlite3
import sys
import threading
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
import websockets
from websockets.asyncio.client import ClientConnection

from infra.db.store import Store
from infra.db.url import file_url
from serve.state import read_state
from tests.service import Service, environment, run_finstage, running, wait_until

SOCKETS = 20
HOT = "/api/v2/technical-analysis/indicators/AAPL"
MISS = "/api/v2/prices/IBM/history?period=max&x={}"  # never asked before
REPLACED = re.compile(r"ready: api (\d+), stream (\d+) -> api (\d+), stream (\d+)")


class Load:
    """Requests one after the other, from a thread, none of them tried again.

    `kept` uses one connection. HAProxy lets it go on until an answer that closes it, as its
    `idle-close-on-response` says; but a client may meet the end of any kept connection between
    two requests, so its failures are told and not judged.
    """

    def __init__(self, url: str, kept: bool) -> None:
        self._url = url
        self._kept = kept
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.failed: list[str] = []
        self.answered = 0

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join(60)

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30, trust_env=False) as client:
            number = 0
            while not self._ends.is_set():
                number += 1
                self._ask(client, HOT if number % 2 else MISS.format(number))

    def _ask(self, client: httpx.Client, path: str) -> None:
        headers = {} if self._kept else {"connection": "close"}
        try:
            answer = client.get(path, headers=headers)
        except httpx.HTTPError as error:
            self.failed.append(f"{path}: {error!r}")
            return
        self.answered += 1
        if answer.status_code != 200:
            self.failed.append(f"{path}: {answer.status_code} {answer.text[:200]}")


@dataclass
class Told:
    """What one client saw of the restart."""

    farewells: list[dict[str, Any]] = field(default_factory=list)
    close_code: int | None = None
    ticks_before: int = 0
    ticks_after: int = 0


async def follow(url: str, told: Told, all_follow: asyncio.Barrier) -> None:
    """Take prices until the socket is closed; come back when the farewell says; take one more."""
    async with websockets.connect(url, proxy=None) as socket:
        await subscribed(socket)
        await all_follow.wait()
        try:
            async for text in socket:
                message = orjson.loads(text)
                told.ticks_before += message["type"] == "price_update"
                if message.get("event") == "going_away":
                    told.farewells.append(message)
        except websockets.ConnectionClosed:
            pass
        told.close_code = socket.close_code
    least_ms, most_ms = told.farewells[0]["reconnect_after_ms"]
    await asyncio.sleep(random.uniform(least_ms, most_ms) / 1_000)
    async with websockets.connect(url, proxy=None) as socket:
        await subscribed(socket)
        async for text in socket:
            if orjson.loads(text)["type"] == "price_update":
                told.ticks_after += 1
                return


async def subscribed(socket: ClientConnection) -> None:
    await socket.send('{"action":"subscribe","type":"prices","symbols":["AAPL","IBM"]}')
    while orjson.loads(await socket.recv()).get("action") != "subscribed":
        continue


async def restarted(service: Service, *options: str) -> tuple[str, int, list[Told]]:
    """Restart under sockets; return what the command said, its exit code, what sockets saw."""
    url = service.url.replace("http", "ws") + "/ws/realtime"
    told = [Told() for _ in range(SOCKETS)]
    all_follow = asyncio.Barrier(SOCKETS + 1)
    async with asyncio.timeout(400), asyncio.TaskGroup() as group:
        for one in told:
            group.create_task(follow(url, one, all_follow))
        await all_follow.wait()
        ended = await asyncio.to_thread(
            run_finstage, "restart", "--rolling", *options, env=service.environment
        )
    return ended.stdout + ended.stderr, ended.returncode, told


def actor_pids(url: str) -> dict[str, str]:
    """Return each actor with its process, as the service says."""
    checks = httpx.get(f"{url}/health/ready", timeout=30, trust_env=False).json()["checks"]
    return {name: c["detail"] for name, c in checks.items() if c["detail"].startswith("pid ")}


def halves(replaced: re.Match[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the processes before and after."""
    return replaced.groups()[:2], replaced.groups()[2:]


def test_a_rolling_restart_fails_no_request_and_sockets_come_back(tmp_path: Path) -> None:
    with running(tmp_path, replay_session_s=20) as service:
        actors = actor_pids(service.url)
        with Load(service.url, kept=False) as fresh, Load(service.url, kept=True) as kept:
            said, code, told = asyncio.run(restarted(service))
        after = actor_pids(service.url)
        state = read_state(service.settings)
        replaced = REPLACED.search(said)
        assert replaced is not None, said
        old, new = [[int(pid) for pid in pids] for pids in halves(replaced)]
        wait_until(lambda: not any(map(psutil.pid_exists, old)), 10, "the old processes' end")
    sys.stdout.write(
        f"{said}\n{fresh.answered} answers on connections of their own, {kept.answered} on kept "
        f"ones, of which {len(kept.failed)} failed: {kept.failed[:3]}\n"
    )

    # Then no request failed, and every replica is another process
    assert code == 0, said
    assert fresh.failed == []
    assert fresh.answered > 50
    assert state is not None
    assert set(new) <= set(state.processes)
    assert not set(new) & set(old)
    # and no actor is
    assert actors
    assert after == actors
    assert "actors run on as they were" in said
    assert "haproxy:" in said
    # and every socket heard of it, was closed by us, and got prices again
    for one in told:
        assert [message["event"] for message in one.farewells] == ["going_away"]
        assert one.close_code == 4001
        assert one.ticks_before > 0
        assert one.ticks_after > 0


def test_actors_are_replaced_too_where_that_is_asked_for(tmp_path: Path) -> None:
    with running(tmp_path, replay_session_s=20) as service:
        actors = actor_pids(service.url)
        ended = run_finstage(
            "restart", "--rolling", "--actors", "--timeout-s", "300",
            env=service.environment, timeout_s=400,
        )  # fmt: skip
        after = actor_pids(service.url)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert after.keys() == actors.keys()
    assert not set(after.values()) & set(actors.values())
    assert REPLACED.search(ended.stdout)


def test_a_newer_store_ends_the_start_with_one_line(tmp_path: Path) -> None:
    env = environment(tmp_path)
    file = tmp_path / "store.db"

    async def make() -> None:
        store = Store(file_url(file))
        await store.migrate()
        await store.close()

    asyncio.run(make())
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("update alembic_version set version_num = '9999'")

    ended = run_finstage("up", env=env)

    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "run the later Finstage" in ended.stderr
    assert not (tmp_path / "backups").exists()


def test_an_older_store_is_kept_and_migrated_by_a_start(tmp_path: Path) -> None:
    async def make() -> None:
        store = Store(file_url(tmp_path / "store.db"), tables_needed=False)
        await store.migrate("0003")
        await store.close()

    asyncio.run(make())

    with running(tmp_path) as service:
        ready = f"{service.url}/health/ready"

        def is_ready() -> bool:
            answer = httpx.get(ready, timeout=30, trust_env=False)
            return bool(answer.json()["status"] == "ready")

        wait_until(is_ready, 10, "the store found")
        said = service.output

    (backup,) = (tmp_path / "backups").iterdir()
    assert backup.name.startswith("store-0003-")
    assert str(backup) in said
