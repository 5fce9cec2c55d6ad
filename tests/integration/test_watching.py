"""`finstage monitor` and `finstage dashboard`, beside a running service."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import orjson
from websockets.sync.client import connect

from tests.service import Service, environment, free_port, wait_until


def test_monitor_prints_lines_and_keeps_what_it_saw(service: Service, tmp_path: Path) -> None:
    with httpx.Client(base_url=service.url, timeout=30, trust_env=False) as http:
        wait_until(lambda: http.get("/api/metrics/current").status_code == 200, 20, "a reading")
        command = [
            str(Path(sys.executable).with_name("finstage")), "monitor", "--interval", "1",
            "--lines", "2", "--memory-threshold", "84", "--no-auto-tuning",
            "--save", str(tmp_path),
        ]  # fmt: skip
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=120,
            env=environment(service.settings.data_dir),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("requests/s") == 2
        (kept,) = tmp_path.glob("performance_history_*.json")
        assert len(orjson.loads(kept.read_bytes())["seen"]) == 2
        rules = http.get("/api/v2/alerts/rules").json()["data"]["alert_rules"]
        assert [r["threshold"] for r in rules if r["id"] == "high_memory_usage"] == [84.0]
        assert http.get("/api/v2/performance/tuning").json()["auto_tuning"] is False
        http.post("/api/v2/performance/tuning/start").raise_for_status()


def test_the_dashboard_alone_shows_a_service_elsewhere(service: Service) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        str(Path(sys.executable).with_name("finstage")), "dashboard", "--url", service.url,
        "--port", str(port),
    ]  # fmt: skip
    with subprocess.Popen(command, env=environment(service.settings.data_dir)) as process:
        try:
            with httpx.Client(base_url=url, timeout=30, trust_env=False) as http:
                wait_until(lambda: _answers(http), 10, "the page")
                assert http.get("/assets/performance.js").status_code == 200
                assert http.get("/api/v2/performance/dashboard").status_code == 200
                assert http.get("/api/v2/symbols").status_code == 404
            with connect(url.replace("http", "ws") + "/ws") as socket:
                message = orjson.loads(socket.recv(timeout=30))
                assert message["type"] == "metrics_update"
                assert "cpu_usage_percent" in message["data"]
        finally:
            process.terminate()


def _answers(http: httpx.Client) -> bool:
    try:
        return "html" in http.get("/").headers["content-type"]
    except httpx.ConnectError:
        return False
