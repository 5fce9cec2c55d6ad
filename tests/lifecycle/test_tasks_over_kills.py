"""What was accepted is done, whatever is killed: workers, the queue, the raylet, the database."""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import psutil
import pytest

import finstage
from tests.away import World
from tests.fakes import tasks
from tests.service import Service, environment, running, start, stop, wait_until

ENDED = ("completed", "failed", "cancelled")


def counts(service: Service) -> dict[str, int]:
    answer = httpx.get(f"{service.url}/api/tasks/queue/stats", timeout=30, trust_env=False)
    found: dict[str, int] = answer.json()["status_counts"]
    return found


def all_ended(service: Service, accepted: int) -> bool:
    found = counts(service)
    return sum(found.get(state, 0) for state in ENDED) == accepted == sum(found.values())


def processes(service: Service, title: str) -> list[psutil.Process]:
    """Return the service's processes that Ray calls so."""
    found = []
    for process in psutil.Process(service.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[:1] == [f"ray::{title}"]:
                found.append(process)
    return found


def submit(http: httpx.Client, folder: Path, first: int, count: int) -> int:
    """Submit tasks over HTTP; return how many were accepted."""
    accepted = 0
    for number in range(first, first + count):
        kwargs = {"folder": str(folder), "name": f"n{number}"}
        body = {"task_name": "tests.fakes.tasks.effect", "kwargs": kwargs}
        key = {"Idempotency-Key": f"n{number}"}
        for _ in range(40):  # the answer may be lost with who gave it: the key makes it one task
            with contextlib.suppress(httpx.HTTPError):
                answer = http.post("/api/tasks/submit", json=body, headers=key)
                if answer.status_code == 202:
                    accepted += 1
                    break
            time.sleep(0.25)
    return accepted


def test_kills_of_workers_and_queue_at_random_moments(tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    draws = random.Random(seed)
    effects = tmp_path / "effects"
    effects.mkdir()
    with running(tmp_path / "data") as service:
        with finstage.connect(data_dir=service.settings.data_dir):
            handles, killed = [], Counter[str]()
            for round_ in range(8):
                names = [f"n{round_}-{n}" for n in range(250)]
                handles += finstage.submit_many(
                    tasks.effect.s(str(effects), name) for name in names
                )
                time.sleep(draws.uniform(0.1, 0.6))
                title = draws.choice(("finstage_task", "TaskQueueActor"))
                for process in processes(service, title)[:1]:
                    with contextlib.suppress(psutil.Error):
                        process.kill()
                        killed[title] += 1
            results = finstage.wait_for_all(handles, 300)
        assert len(results) == 2_000, f"seed {seed}"
        assert all_ended(service, 2_000), f"seed {seed}: {counts(service)}"
        assert len(list(effects.iterdir())) == 2_000, f"seed {seed}"
        sys.stdout.write(f"seed {seed}, killed {dict(killed)}\n")


@pytest.mark.parametrize("victim", ["raylet", "everything"])
def test_after_the_next_start_all_is_done(tmp_path: Path, victim: str) -> None:
    effects = tmp_path / "effects"
    effects.mkdir()
    env = environment(tmp_path / "data")
    service = start(env)
    with httpx.Client(base_url=service.url, timeout=30, trust_env=False) as http:
        accepted = submit(http, effects, 0, 200)
        body = {"task_name": "tests.fakes.tasks.sleeps", "kwargs": {"seconds": 1.0}}
        for _ in range(20):
            accepted += http.post("/api/tasks/submit", json=body).status_code == 202
    if victim == "raylet":
        raylets = [p for p in psutil.Process(service.process.pid).children(recursive=True)
                   if p.name() == "raylet"]  # fmt: skip
        raylets[0].kill()
        assert service.process.wait(timeout=60) == 1
    else:
        tree = [psutil.Process(service.process.pid)]
        tree += tree[0].children(recursive=True)
        for process in tree:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        service.process.wait(timeout=60)
        psutil.wait_procs(tree, timeout=20)

    service = start(env)
    try:
        wait_until(lambda: all_ended(service, accepted), 30, "all is done after the restart")
        assert accepted == 220
        assert counts(service) == {"completed": 220}
        assert len(list(effects.iterdir())) == 200
    finally:
        stop(service)


def test_a_stop_lets_what_runs_end_and_queues_the_rest_again(tmp_path: Path) -> None:
    env = environment(tmp_path)
    service = start(env)
    with httpx.Client(base_url=service.url, timeout=30, trust_env=False) as http:

        def submitted(seconds: float) -> str:
            body = {"task_name": "tests.fakes.tasks.waits", "kwargs": {"seconds": seconds}}
            return str(http.post("/api/tasks/submit", json=body).json()["data"]["task_id"])

        def runs(task_id: str) -> bool:
            found = http.get(f"/api/tasks/task/{task_id}").json()["data"]
            return bool(found["worker_id"] and found["status"] == "running")

        short, long = submitted(4.0), submitted(600.0)
        wait_until(lambda: runs(short) and runs(long), 20, "both run")
    took_s = stop(service)
    sys.stdout.write(f"stopped in {took_s:.1f} s\n")
    assert took_s < 2 * service.settings.stop_s

    service = start(env)
    try:
        with httpx.Client(base_url=service.url, timeout=30, trust_env=False) as http:
            found = http.get(f"/api/tasks/task/{short}").json()["data"]
            assert found["status"] == "completed", "it ended within its grace"
            wait_until(lambda: runs(long), 20, "the other runs again")
            assert http.get(f"/api/tasks/task/{long}").json()["data"]["retry_count"] <= 1
            http.post(f"/api/tasks/task/{long}/cancel")
    finally:
        stop(service)


def test_a_database_that_goes_away_delays_and_loses_nothing(tmp_path: Path) -> None:
    effects = tmp_path / "effects"
    effects.mkdir()
    world = World(tmp_path)
    world.do(world.proxy.up())
    try:
        with running(tmp_path / "data", database_url=world.url) as service:
            with finstage.connect(data_dir=service.settings.data_dir):
                names = [f"a{number}" for number in range(500)]
                handles = finstage.submit_many(
                    tasks.effect.s(str(effects), name) for name in names
                )
                time.sleep(0.3)
                world.do(world.proxy.down())
                time.sleep(3.0)
                with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as http:
                    body = {"task_name": "tests.fakes.tasks.noop"}
                    refused = http.post("/api/tasks/submit", json=body)
                world.do(world.proxy.up())
                results = finstage.wait_for_all(handles, 300)
            assert refused.status_code == 503, refused.text
            assert results == names
            assert len(list(effects.iterdir())) == 500
            wait_until(lambda: counts(service)["completed"] == sum(counts(service).values()), 10,
                       "all has ended")  # fmt: skip
    finally:
        world.close()
