"""Finstage on a Ray that runs already: works, says so, and takes away only what is its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray._private.services import get_node_ip_address

from serve.processes import ProcessTree, alive, end_all
from tests.service import environment, free_port, run_finstage, start, stop, wait_until

TAKEN_APP = """
import ray
from fastapi import FastAPI
from ray import serve
ray.init(address="auto", logging_level="ERROR")
@serve.deployment(ray_actor_options={"num_cpus": 0})
@serve.ingress(FastAPI())
class Other: ...
serve.run(Other.bind(), name="somebody-else", route_prefix="/")
"""


RAY = str(Path(sys.executable).with_name("ray"))


def start_ray(log: Path, env: dict[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    """Start a Ray node that lives as long as its process, and wait until it runs."""
    command = [RAY, "start", "--block", "--object-store-memory=100000000", *arguments]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT)

    def runs() -> bool:
        assert process.poll() is None, log.read_text()
        return b"Ray runtime started" in log.read_bytes()

    wait_until(runs, 15, "another Ray")
    return process


def ray_environment(**variables: str) -> dict[str, str]:
    """Return the variables of somebody else's Ray."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("FINSTAGE_", "RAY_"))}
    return own | {"RAY_USAGE_STATS_ENABLED": "0"} | variables


@contextmanager
def head(tmp_path: Path, env: dict[str, str], host: str) -> Iterator[dict[str, str]]:
    """Start a head with Serve's default ingress; give the variables for drivers."""
    port = free_port() % 9_000 + 1_024  # below those that Ray keeps for its workers
    process = start_ray(
        tmp_path / "head.log", env, "--head", f"--port={port}", "--num-cpus=4",
        "--include-dashboard=false",
    )  # fmt: skip
    try:
        yield env | {"RAY_ADDRESS": f"{host}:{port}"}
    finally:
        end_all(ProcessTree(tmp_path).look(), patience_s=5)
        process.wait(timeout=30)


@pytest.fixture
def other_ray(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A Ray of somebody else, on loopback."""
    env = ray_environment(RAY_AUTH_MODE="disabled", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0")
    with head(tmp_path, env, "127.0.0.1") as drivers:
        yield drivers


@pytest.fixture
def two_raylets(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A Ray of two nodes on this machine, which must not be on loopback: hence a token."""
    token = tmp_path / "token"
    token.write_text("ab" * 32)
    token.chmod(0o600)
    env = ray_environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token))
    with head(tmp_path, env, get_node_ip_address()) as drivers:
        second = start_ray(
            tmp_path / "second.log", env, f"--address={drivers['RAY_ADDRESS']}",
            "--num-cpus=1", f"--dashboard-agent-listen-port={free_port()}",
            "--min-worker-port=20000", "--max-worker-port=20999",
        )  # fmt: skip
        yield drivers
    second.wait(timeout=30)


def test_it_joins_works_and_leaves_ray_running(other_ray: dict[str, str], tmp_path: Path) -> None:
    env = environment(tmp_path, task_modules="") | other_ray
    service = start(env, "--address", env["RAY_ADDRESS"])
    indicators = httpx.get(
        f"{service.url}/api/v2/technical-analysis/indicators/AAPL", timeout=30, trust_env=False
    )
    output = service.output

    stop(service)
    nodes = subprocess.run(
        [sys.executable, "-c", "import ray; ray.init(); print(len(ray.nodes()))"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert indicators.status_code == 200
    assert "joined a Ray that ran already" in output
    assert nodes.stdout.strip().endswith("1")


def test_it_ends_when_the_ray_it_joined_dies(other_ray: dict[str, str], tmp_path: Path) -> None:
    env = environment(tmp_path, task_modules="") | other_ray
    service = start(env, "--address", env["RAY_ADDRESS"])

    (head_process,) = [p for p in alive(ProcessTree(tmp_path).look()) if p.name() == "gcs_server"]
    head_process.kill()
    service.process.wait(timeout=75)

    assert service.process.returncode == 1
    assert "Ray died under the service" in service.output


def test_two_raylets_answer_as_one(two_raylets: dict[str, str], tmp_path: Path) -> None:
    env = environment(tmp_path, task_modules="") | two_raylets
    service = start(env, "--address", env["RAY_ADDRESS"])

    answer = httpx.get(
        f"{service.url}/api/v2/technical-analysis/indicators/AAPL", timeout=30, trust_env=False
    )
    nodes = subprocess.run(
        [sys.executable, "-c", "import ray; ray.init(); print(len(ray.nodes()))"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    stop(service)

    assert answer.status_code == 200
    assert nodes.stdout.strip().endswith("2")


SHIPPED = """
import os, time
from finstage import task


@task
def where() -> str:
    time.sleep(0.3)  # so that both nodes have their share
    return __file__
"""


def test_modules_of_tasks_go_to_every_node(two_raylets: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "shipped.py").write_text(SHIPPED)
    env = environment(tmp_path / "data", task_modules="shipped") | two_raylets
    env["PYTHONPATH"] = str(folder)  # of the service alone: the nodes do not know it
    service = start(env, "--address", env["RAY_ADDRESS"])
    try:
        with httpx.Client(base_url=service.url, timeout=30, trust_env=False) as http:
            ids = [
                http.post("/api/tasks/submit", json={"task_name": "shipped.where"}).json()["data"][
                    "task_id"
                ]
                for _ in range(10)
            ]

            def results() -> list[dict[str, Any]]:
                return [http.get(f"/api/tasks/task/{i}/result").json() for i in ids]

            wait_until(lambda: all("status" in one for one in results()), 60, "all have ended")
            found = results()
    finally:
        stop(service)
    assert {one["status"] for one in found} == {"completed"}, found
    assert all(not one["result"].startswith(str(folder)) for one in found), found


def test_a_taken_prefix_is_named(other_ray: dict[str, str], tmp_path: Path) -> None:
    env = environment(tmp_path, task_modules="") | other_ray
    subprocess.run([sys.executable, "-c", TAKEN_APP], env=env, timeout=90, check=True)

    result = run_finstage("up", "--address", env["RAY_ADDRESS"], env=env)

    assert result.returncode == 2, result.stdout + result.stderr
    assert "the prefix / is taken by the application 'somebody-else'" in result.stderr


def test_no_ray_to_join_is_one_line(tmp_path: Path) -> None:
    env = environment(tmp_path) | {"RAY_AUTH_MODE": "disabled"}

    result = run_finstage("up", "--address", "127.0.0.1:1", env=env)

    assert result.returncode == 2
    assert "no Ray at 127.0.0.1:1 can be joined" in result.stderr
