"""Start, stop, and what stands in the way of a start: one clear line and exit 2."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from serve.processes import alive
from serve.state import read_state
from tests.service import (
    Service,
    environment,
    run_finstage,
    running,
    settings_of,
    start,
    stop,
    wait_until,
)

STOP_WITHIN_S = 15.0


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


def told(took_s: float) -> None:
    sys.stdout.write(f"stopped in {took_s:.1f} s (aim {STOP_WITHIN_S:g} s)\n")
    assert took_s < 5 * STOP_WITHIN_S


def test_ctrl_c_stops_everything(tmp_path: Path) -> None:
    service = start(environment(tmp_path))
    overview = service.output
    second = run_finstage("up", env=service.environment)
    status = run_finstage("status", env=service.environment)
    doctor = run_finstage("doctor", env=service.environment)

    told(stop(service, signal.SIGINT))

    assert service.process.returncode == 0
    assert service.url in overview
    assert "token" in overview
    assert f"runs already at {service.url}" in one_line(second)
    assert status.returncode == 0
    assert "haproxy" in status.stdout
    assert doctor.returncode == 0, doctor.stdout
    assert read_state(service.settings) is None
    assert run_finstage("status", env=service.environment).returncode == 3


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_a_signal_to_the_whole_group_lets_a_task_end(tmp_path: Path, how: signal.Signals) -> None:
    # Given a task that runs, as when Ctrl-C is pressed in the terminal of `make run`
    service = start(environment(tmp_path))
    with httpx.Client(base_url=service.url, timeout=30, trust_env=False) as http:
        body = {"task_name": "tests.fakes.tasks.waits", "kwargs": {"seconds": 3.0}}
        made = http.post("/api/tasks/submit", json=body).json()["data"]["task_id"]
        task = f"/api/tasks/task/{made}"
        wait_until(lambda: http.get(task).json()["data"]["progress"] == 40, 20, "it runs")

    # When the signal goes to the group
    os.killpg(os.getpgid(service.process.pid), how)

    # Then the task has come to its end, and so have all processes
    wait_until(lambda: service.process.poll() is not None, STOP_WITHIN_S, "its end")
    assert service.process.returncode == 0
    assert not service.left_over()
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as store:
        states = store.execute("SELECT state FROM task_outcomes").fetchall()
    assert states == [("completed",)]
    logs = "".join(path.read_text() for path in service.settings.log_dir.glob("up-*.jsonl"))
    assert "stop.step_failed" not in logs


@pytest.mark.parametrize("moment", ["gcs_server", "raylet", "haproxy"])
def test_ctrl_c_in_the_middle_of_a_start_stops_it(tmp_path: Path, moment: str) -> None:
    # Given a start that has come as far as this process
    env = environment(tmp_path)
    command = [sys.executable, "-m", "finstage", "up"]
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    seen: dict[int, float] = {}

    def names() -> set[str]:
        children = psutil.Process(process.pid).children(recursive=True)
        found = set()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                seen[child.pid] = child.create_time()
                found.add(child.name())
        return found

    wait_until(lambda: moment in names(), 20, f"{moment} in a start")

    # When the operator gives up
    process.send_signal(signal.SIGINT)

    # Then all of it ends
    told(wait_until(lambda: process.poll() is not None, STOP_WITHIN_S, "its end"))
    assert process.returncode == 0
    assert not alive(seen)
    assert read_state(settings_of(env)) is None


def test_the_background_service_is_ended_by_down(tmp_path: Path) -> None:
    env = environment(tmp_path)
    up = run_finstage("up", "--detach", env=env)
    settings = settings_of(env)
    state = read_state(settings)
    assert up.returncode == 0, up.stdout + up.stderr
    assert state is not None
    answer = httpx.get(f"{state.url}/health/ready", timeout=10, trust_env=False)

    down = run_finstage("down", env=env)

    assert answer.status_code == 200
    assert (down.returncode, down.stdout.strip()) == (0, "stopped")
    assert not alive(state.processes)
    assert run_finstage("down", env=env).returncode == 0


def test_the_service_ends_when_ray_dies_under_it(tmp_path: Path) -> None:
    service = start(environment(tmp_path))
    raylet = next(p for p in service.left_over() if p.name() == "raylet")

    raylet.kill()
    service.process.wait(timeout=5 * STOP_WITHIN_S)

    assert service.process.returncode == 1
    assert "Ray died under the service: raylet" in service.output
    assert not service.left_over()


def test_down_clears_away_what_a_killed_service_left(tmp_path: Path) -> None:
    service = start(environment(tmp_path))

    service.process.kill()
    service.process.wait()
    down = run_finstage("down", env=service.environment)

    assert down.returncode == 0
    assert not service.left_over()


def answers_about_clients(service: Service) -> list[int]:
    """Ask who is connected, without a key, on every port that answers HTTP for the service."""
    known = service.left_over()
    ours = {c.pid for one in known for c in (one, *one.children(recursive=True))}
    listening = {
        c.laddr.port
        for c in psutil.net_connections("tcp")
        if c.pid in ours and c.laddr and not c.raddr
    }
    replicas = {port for port in listening if 30_000 <= port < 31_000}
    ports = {service.settings.port, service.state.ports["fallback"], *replicas}
    assert len(ports) >= 4  # two replicas
    names = [
        n for one in ("clients", "status") for n in (f"/{one}", f"/ws/{one}", f"/ws/ws/{one}")
    ]
    paths = [path + end for path in names for end in ("", "/", "%0A", "%00")]
    return [
        httpx.get(f"http://127.0.0.1:{port}{path}", timeout=10, trust_env=False).status_code
        for port in ports
        for path in paths
    ]


def test_two_services_run_side_by_side_and_keys_guard_changes(tmp_path: Path) -> None:
    def price_source(service: Service) -> str:
        url = f"{service.url}/api/v2/async/symbols/AAPL/price"
        return str(httpx.get(url, timeout=10, trust_env=False).json()["data_version"])

    def add(service: Service, key: str = "") -> int:
        headers = {"x-api-key": key} if key else {}
        body = {"symbols": ["AAPL"]}
        url = f"{service.url}/api/v2/symbols"
        return httpx.post(url, json=body, headers=headers, trust_env=False).status_code

    with (
        running(tmp_path / "one", replay_started_at_s=1_000_000) as one,
        running(tmp_path / "two", replay_started_at_s=2_000_000, api_keys="bot:0123456789") as two,
    ):
        assert price_source(one).startswith("replay-1000000-")
        assert price_source(two).startswith("replay-2000000-")
        assert not set(one.state.ports.values()) & set(two.state.ports.values())
        told(stop(one))
        assert price_source(two).startswith("replay-2000000-")
        keys = ("", "9876543210", "0123456789")
        assert [add(two, key) for key in keys] == [401, 401, 200]
        answers = answers_about_clients(two)
        assert min(answers) >= 300  # a redirect, or a refusal
        assert answers.count(401) > 10
        assert os.stat(two.state.token_path).st_mode & 0o777 == 0o600


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        line = one_line(run_finstage("up", env=environment(tmp_path, port=port)))

    assert f"port {port} is taken" in line
    assert "FINSTAGE_PORT" in line


def test_too_few_descriptors_are_named(tmp_path: Path) -> None:
    command = f"ulimit -n 4000; exec {sys.executable} -m finstage up"
    result = subprocess.run(
        ["bash", "-c", command],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert "ulimit -n" in one_line(result)


def test_a_directory_that_cannot_be_written_is_named() -> None:
    line = one_line(run_finstage("up", env=environment(Path("/proc/finstage"))))

    assert "FINSTAGE_DATA_DIR" in line


def test_an_unknown_setting_and_an_open_address_without_keys_are_named(tmp_path: Path) -> None:
    unknown = one_line(run_finstage("up", env=environment(tmp_path, sorce="replay")))
    opened = one_line(run_finstage("up", env=environment(tmp_path, host="0.0.0.0")))

    assert "did you mean FINSTAGE_SOURCE" in unknown
    assert "FINSTAGE_API_KEYS" in opened


def test_an_unknown_symbol_in_the_settings_is_named(tmp_path: Path) -> None:
    line = one_line(run_finstage("up", env=environment(tmp_path, symbols="AAPL,APPL")))

    assert "FINSTAGE_SYMBOLS: symbol 'APPL' is not known; nearest known: AAPL" in line


def test_config_masks_keys(tmp_path: Path) -> None:
    env = environment(tmp_path, api_keys="bot:0123456789") | {"COLUMNS": "200"}
    result = run_finstage("config", env=env)

    assert result.returncode == 0
    assert "0123456789" not in result.stdout
    assert "environment" in result.stdout
    assert "bot:********" in result.stdout
