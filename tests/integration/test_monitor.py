"""The monitor of a running service: what it decides is so in every process, and survives kills."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import orjson
import pytest
import websockets

from tests.service import Service, wait_until

TA = "/api/v2/technical-analysis/indicators/IBM"


@pytest.fixture
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30, trust_env=False) as client:
        yield client


def told(http: httpx.Client, check: Callable[[dict[str, Any]], bool], what: str) -> None:
    wait_until(lambda: check(http.get("/monitoring/directives").json()), 5, what)


def edge_hits(http: httpx.Client) -> float:
    name = 'finstage_cache_reads_total{cache="technical_analysis",level="edge",result="hit"}'
    lines = http.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def grows(http: httpx.Client) -> bool:
    """Ask the same twice, and say whether the second was a hit; counts come after two seconds."""
    before = edge_hits(http)
    for _ in range(3):
        http.get(TA)
    deadline_s = time.monotonic() + 6
    while time.monotonic() < deadline_s:
        if edge_hits(http) > before:
            return True
        time.sleep(0.5)
    return False


def test_a_reading_comes_and_the_page_is_there(http: httpx.Client) -> None:
    wanted = {"feed", "hub", "indicators", "api", "stream", "monitor", "cache"}

    def all_there() -> bool:
        body = http.get("/api/v2/performance/dashboard").json()
        return wanted <= {p["process"].partition("-")[0] for p in body.get("processes", ())}

    wait_until(all_there, 20, "a reading with every process")
    assert http.get("/performance-dashboard").headers["content-type"].startswith("text/html")


def test_metrics_have_every_process_and_rays_own(http: httpx.Client) -> None:
    def there() -> bool:
        text = http.get("/metrics").text
        words = ("ray_actors{", "finstage_stage_duration_seconds_count", "finstage_app_info",
                 "finstage_haproxy_processes")  # fmt: skip
        return all(word in text for word in words)

    wait_until(there, 10, "all on one page")
    assert len(http.get("/metrics").content) < 2**20


def test_a_rule_switches_a_code_path_in_the_replica(http: httpx.Client) -> None:
    http.get(TA)
    assert grows(http)
    rule = {"rule_id": "caching_technical_analysis"}
    http.post("/api/v2/optimization/disable", json=rule).raise_for_status()
    try:
        wait_until(lambda: not grows(http), 30, "no answer comes from memory")
    finally:
        http.post("/api/v2/optimization/enable", json=rule | {"force": True}).raise_for_status()
    wait_until(lambda: grows(http), 30, "answers come from memory again")


def test_decisions_outlive_the_monitor_and_the_cache(http: httpx.Client) -> None:
    rule = {"rule_id": "background_heavy_tasks"}
    http.post("/api/v2/optimization/disable", json=rule).raise_for_status()
    try:
        for part in ("monitor", "cache"):
            checks = http.get("/health/ready").json()["checks"]
            os.kill(int(checks[part]["detail"].split()[1]), signal.SIGKILL)
            told(
                http, lambda now: now["off"] == [rule["rule_id"]], f"told after {part} was killed"
            )

        def refused() -> bool:
            answer = http.post(
                "/api/v2/technical-analysis/analysis/comprehensive",
                json={"symbols": ["AAPL"]},
                headers={"Prefer": "respond-async"},
            )
            return answer.status_code == 200

        wait_until(refused, 5, "done at once, though asked for later")
    finally:
        http.post("/api/v2/optimization/enable", json=rule).raise_for_status()
    answer = None

    def queued() -> bool:
        nonlocal answer
        answer = http.post(
            "/api/v2/technical-analysis/analysis/comprehensive",
            json={"symbols": ["AAPL"]},
            headers={"Prefer": "respond-async"},
        )
        return answer.status_code == 202

    wait_until(queued, 5, "queued")
    assert answer is not None
    assert answer.headers["preference-applied"] == "respond-async"
    assert http.get(answer.headers["location"]).status_code == 200


def test_an_ab_test_splits_requests_and_says_what_it_is_worth(http: httpx.Client) -> None:
    path = "/api/v2/prices/AAPL/history"
    body = {
        "id": "worth", "name": "worth", "traffic_split_method": "random", "min_sample_size": 150,
        "target_endpoints": ["/api/v2/prices/{symbol}/history"],
        "variants": [
            {"id": "off", "name": "off", "traffic_percentage": 50, "is_control": True},
            {"id": "on", "name": "on", "traffic_percentage": 50,
             "optimization_rules": ["caching_price_data", "async_api_endpoints"]},
        ],
    }  # fmt: skip
    http.post("/api/v2/ab-tests", json=body).raise_for_status()
    http.post("/api/v2/ab-tests/worth/start").raise_for_status()
    try:
        wait_until(lambda: "x-ab-test-variants" in http.get(path).headers, 5, "in the test")
        for _ in range(400):
            assert http.get(path, params={"period": "1y"}).status_code == 200
        analysis: dict[str, Any] = {}

        def decided() -> bool:
            analysis.update(http.get("/api/v2/ab-tests/worth/analysis").json())
            return bool(analysis.get("comparisons")) and analysis["status"] == "decided"

        wait_until(decided, 5, "a verdict")
        (comparison,) = analysis["comparisons"]
        assert (comparison["status"], comparison["direction"]) == ("significant", "better")
        assert http.delete("/api/v2/ab-tests/worth").status_code == 409
    finally:
        http.post("/api/v2/ab-tests/worth/stop", json={"reason": "done"}).raise_for_status()
        http.delete("/api/v2/ab-tests/worth").raise_for_status()
    assert http.get("/api/v2/ab-tests/worth").status_code == 404


def test_changes_at_one_time_are_all_kept_and_none_is_done_twice(http: httpx.Client) -> None:
    hooks, tests = "/api/v2/alerts/config/webhook", "/api/v2/ab-tests"
    urls = [f"https://hooks.example.org/{number}" for number in range(30)]
    body = {
        "id": "once", "name": "once", "traffic_split_method": "random",
        "target_endpoints": ["/api/v2/prices/{symbol}/history"],
        "variants": [
            {"id": "off", "name": "off", "traffic_percentage": 50, "is_control": True},
            {"id": "on", "name": "on", "traffic_percentage": 50,
             "optimization_rules": ["caching_price_data"]},
        ],
    }  # fmt: skip
    with ThreadPoolExecutor(30) as pool:
        added = list(pool.map(lambda url: http.post(hooks, json={"webhook_url": url}), urls))
        made = Counter(pool.map(lambda _: http.post(tests, json=body).status_code, range(12)))
        asked = [("POST", f"{tests}/once/start"), ("DELETE", f"{tests}/once")] * 4
        moved = Counter(pool.map(lambda one: http.request(*one).status_code, asked))
        config = http.get("/api/v2/alerts/config").json()
        hook = partial(http.request, "DELETE", hooks)
        gone = Counter(pool.map(lambda url: hook(json={"webhook_url": url}).status_code, urls * 2))
    http.post(f"{tests}/once/stop")
    http.delete(f"{tests}/once")
    assert len({answer.json()["secret"] for answer in added}) == 30
    assert len(config["webhook_urls"]) == 30
    assert made == {200: 1, 409: 11}
    assert moved.keys() <= {200, 404, 409}
    assert moved[200] == 1
    assert gone == {200: 30, 404: 30}


async def test_alerts_and_readings_come_over_the_socket(service: Service) -> None:
    rule = {
        "id": "always", "name": "Always", "metric_name": "memory_percent", "condition": ">",
        "threshold": 0.1, "severity": "info", "channels": ["websocket"], "cooldown_minutes": 0,
    }  # fmt: skip
    url = service.url.replace("http", "ws") + "/ws/realtime"
    async with (
        websockets.connect(url) as socket,
        httpx.AsyncClient(base_url=service.url, timeout=30, trust_env=False) as http,
    ):
        await socket.recv()
        await socket.send(orjson.dumps({"action": "subscribe", "type": "performance"}).decode())
        (await http.post("/api/v2/alerts/monitoring/start?check_interval=10")).raise_for_status()
        (await http.post("/api/v2/alerts/rules", json=rule)).raise_for_status()
        wanted = {"metrics_update", "service_alert"}
        while wanted:
            message = orjson.loads(await socket.recv())
            if message["type"] == "service_alert" and message["alert"]["rule_id"] != "always":
                continue
            wanted.discard(message["type"])
        active = (await http.get("/api/v2/alerts/")).json()["data"]["active_alerts"]
        assert "always" in {alert["rule_id"] for alert in active}
        (await http.delete("/api/v2/alerts/rules/always")).raise_for_status()
        (await http.post("/api/v2/alerts/monitoring/start?check_interval=30")).raise_for_status()


def test_log_levels_change_in_running_processes(service: Service, http: httpx.Client) -> None:
    http.put("/monitoring/logs/level", json={"level": "DEBUG"}).raise_for_status()

    def logs_debug() -> bool:
        http.get("/api/v2/market/status")
        http.get("/api/v2/quotes?symbols=AAPL")
        found = service.settings.log_dir.glob("feed-*.jsonl")
        return any(b'"level":"DEBUG"' in path.read_bytes() for path in found)

    try:
        wait_until(logs_debug, 5, "the feed logs its calls")
    finally:
        http.put("/monitoring/logs/level", json={"level": ""}).raise_for_status()
