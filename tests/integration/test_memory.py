"""Caches and memory of a running service: shared by its processes, true to its data."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

import finstage
from tests.fakes import tasks
from tests.service import Service, wait_until

TA = "/api/v2/technical-analysis"


@pytest.fixture(scope="module")
def driver(service: Service) -> Iterator[Any]:
    with finstage.connect(data_dir=service.settings.data_dir) as connected:
        yield connected


def stats_of(http: httpx.Client, name: str) -> dict[str, Any]:
    found: dict[str, Any] = http.get("/api/memory/cache/stats").json().get(name, {})
    return found


def test_reads_of_the_api_count(http: httpx.Client) -> None:
    before = stats_of(http, "technical_analysis").get("hits", 0)
    for _ in range(20):
        assert http.get(f"{TA}/indicators/AAPL?period=1y").status_code == 200

    wait_until(lambda: stats_of(http, "technical_analysis")["hits"] >= before + 15, 10, "counted")
    stats = stats_of(http, "technical_analysis")
    assert stats["levels"]["edge"]["entries"] >= 1
    assert stats["levels"]["edge"]["bytes"] > 1_000


@pytest.mark.usefixtures("driver")
class TestSharedFunctions:
    """What a driver and workers keep."""

    def test_one_run_serves_the_driver_and_the_workers(
        self, tmp_path: Path, http: httpx.Client
    ) -> None:
        path = str(tmp_path / "runs")
        with ThreadPoolExecutor(20) as pool:
            mine = list(pool.map(lambda _: tasks.kept_number(path, 21), range(100)))
        theirs = [handle.result(60) for handle in
                  [tasks.kept_in_a_task(path, 21) for _ in range(6)]]  # fmt: skip

        assert mine == [42] * 100
        assert [answer for answer, _ in theirs] == [42] * 6
        assert len(Path(path).read_text().splitlines()) == 1

        def counted() -> bool:
            return bool(
                stats_of(http, "test_kept").get("levels", {}).get("shared", {}).get("hits")
            )

        wait_until(counted, 10, "the shared level counted it")

    def test_nothing_old_is_given_after_a_new_bar(self, tmp_path: Path) -> None:
        path = str(tmp_path / "runs")
        first = tasks.runs_of("AAPL", path)
        again = tasks.runs_of("AAPL", path)
        wait_until(lambda: tasks.runs_of("AAPL", path) > first, 60, "a new session came")

        assert (first, again) == (1, 1)

    def test_clearing_reaches_every_process(self, tmp_path: Path, http: httpx.Client) -> None:
        path = str(tmp_path / "runs")
        tasks.kept_number(path, 1)
        wait_until(lambda: "near" in stats_of(http, "test_kept").get("levels", {}), 10, "told")

        answer = http.post("/api/memory/cache/clear?cache_name=test_kept")
        tasks.kept_number(path, 1)

        assert answer.json()["cleared_cache"] == "test_kept", answer.text
        assert len(Path(path).read_text().splitlines()) == 2


def test_every_process_sheds_and_tells(http: httpx.Client) -> None:
    began_s = time.monotonic()
    answer = http.post("/system/memory/optimize?aggressive=true").json()
    sys.stdout.write(f"shed in {time.monotonic() - began_s:.1f} s\n")

    roles = {p["process"].rpartition("-")[0] for p in
             answer["system_optimization"]["optimizations_performed"]}  # fmt: skip
    assert {"api", "stream", "feed", "indicators", "hub", "cache", "alerts", "tasks"} <= roles
    record = http.get("/api/memory/optimization/history").json()["optimization_history"][0]
    assert record["reason"] == "asked"
    assert http.get(f"{TA}/indicators/AAPL?period=1y").status_code == 200


def test_the_whole_tree_is_measured(http: httpx.Client) -> None:
    status = http.get("/api/memory/status").json()
    memory = status["system_memory"]

    assert memory["tree_processes"] > len(memory["processes_mb"]) >= 8
    assert memory["tree_mb"] > 300
    assert memory["object_store_mb"] > 50
    wait_until(lambda: http.get("/api/memory/performance/history").json()["data_points"] >= 1,
               30, "a first sample")  # fmt: skip
    assert status["cache_health"]["shared_backend"]["state"] in ("ok", "unused")
