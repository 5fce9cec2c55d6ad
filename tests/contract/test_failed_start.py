"""A start that fails, wherever: one line, nothing of it lives, and the next one works."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from serve.processes import ProcessTree, end_all, marked
from serve.state import read_state
from tests.fakes.failing_start import STAGES
from tests.service import environment, settings_of, wait_until


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path)


def finstage(
    env: dict[str, str], command: str, stage: str = "none", how: str = "raises"
) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "tests.fakes.failing_start", stage, how, command]
    return subprocess.run(
        arguments, env=env, capture_output=True, text=True, timeout=120, check=False
    )


def orphans(env: dict[str, str]) -> list[int]:
    lines = (Path(env["FINSTAGE_DATA_DIR"]) / "orphans").read_text().split()
    return [int(line) for line in lines]


def live(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists() and _asleep(pid)]


def _asleep(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep")


def line_of(result: subprocess.CompletedProcess[str]) -> str:
    (line,) = result.stderr.strip().splitlines()
    assert "Traceback" not in result.stdout
    return line


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_raises_ends_all_and_says_one_line(env: dict[str, str], stage: str) -> None:
    failed = finstage(env, "up", stage)

    line = line_of(failed)
    assert failed.returncode == 1
    assert "the actor died class_name: HAProxyManager actor_id: 1" in line
    assert orphans(env)
    assert live(orphans(env)) == []
    assert read_state(settings_of(env)) is None
    log = Path(line.rpartition(" is in ")[2])
    entry = json.loads(log.read_text().splitlines()[-1])
    assert entry["event"] == "service.start_failed"
    assert "RuntimeError" in entry["traceback"]
    assert finstage(env, "status").returncode == 3


def test_what_cannot_be_is_said_as_before_a_start(env: dict[str, str]) -> None:
    refused = finstage(env, "up", "join_ray", "refuses")

    assert refused.returncode == 2
    assert line_of(refused) == "finstage: it cannot be so"
    assert live(orphans(env)) == []


def test_a_stage_that_never_ends_is_ended(env: dict[str, str]) -> None:
    failed = finstage(env, "up", "deploy", "hangs")

    assert failed.returncode == 1
    assert "starting the actors and the ingress: not done within 2 s" in line_of(failed)
    assert "s so far, the load is" in failed.stdout
    assert live(orphans(env)) == []


@pytest.mark.parametrize("stage", ["start_head", "await_ready"])
def test_what_a_killed_start_left_is_seen_and_ended(env: dict[str, str], stage: str) -> None:
    killed = finstage(env, "up", stage, "ends")
    left = orphans(env)
    assert killed.returncode == -signal.SIGKILL
    assert live(left) == left

    status = finstage(env, "status")
    down = finstage(env, "down")

    assert status.returncode == 1
    assert "has ended" in status.stdout
    assert all(str(pid) in status.stdout for pid in left)
    assert (down.returncode, live(left)) == (0, [])
    assert f"ended {len(left)} processes" in down.stdout
    assert finstage(env, "status").returncode == 3


def test_the_next_start_ends_what_a_killed_one_left(env: dict[str, str]) -> None:
    finstage(env, "up", "join_ray", "ends")
    left = orphans(env)
    assert live(left) == left

    following = finstage(env, "up", "deploy")

    assert f"ended {len(left)} processes" in following.stdout
    assert live(orphans(env)) == []


def test_down_and_status_see_a_start_under_way(env: dict[str, str]) -> None:
    arguments = [sys.executable, "-m", "tests.fakes.failing_start", "deploy", "waits", "up"]
    process = subprocess.Popen(
        arguments, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    settings = settings_of(env)

    def is_in_stage() -> bool:
        assert process.poll() is None
        state = read_state(settings)
        return state is not None and state.stage.startswith("starting the actors")

    wait_until(is_in_stage, 20, "its third stage")
    status = finstage(env, "status")
    down = finstage(env, "down")
    process.communicate(timeout=60)

    assert (status.returncode, down.returncode, process.returncode) == (1, 0, 0)
    assert f"pid {process.pid} starts it: starting the actors" in status.stdout
    assert live(orphans(env)) == []


@pytest.mark.parametrize("command", ["up", "status", "down"])
@pytest.mark.parametrize("content", [b"", b'{"pid": 1}'])
def test_a_damaged_state_is_named(env: dict[str, str], command: str, content: bytes) -> None:
    file = settings_of(env).run_dir / "state.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)

    refused = finstage(env, command)

    assert refused.returncode == 2
    assert str(file) in line_of(refused)
    assert "remove it" in line_of(refused)


DAMAGED = ["monitored.json", "pins.json", "scheduler.json", "run/ray_token", "store.db"]


@pytest.mark.parametrize("name", DAMAGED)
def test_a_start_names_a_damaged_file(env: dict[str, str], name: str) -> None:
    file = settings_of(env).data_dir / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b'{"symbols": ["AA' * 100)

    arguments = [sys.executable, "-m", "finstage", "up"]
    refused = subprocess.run(
        arguments, env=env, capture_output=True, text=True, timeout=120, check=False
    )

    assert refused.returncode == 2, refused.stderr
    assert str(file) in line_of(refused)
    assert marked(settings_of(env).run_dir) == {}


def test_a_tree_finds_orphans_by_its_folder_alone(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys; from pathlib import Path\n"
        "from serve.processes import ProcessTree\n"
        "folder = Path(sys.argv[1]); folder.mkdir(); (folder / 'lock').touch()\n"
        "ProcessTree(folder).mark()\n"
        "subprocess.run(['sh', '-c', 'sleep 600 >/dev/null 2>&1 & echo $!'])\n"
    )
    folders = [tmp_path / "one", tmp_path / "two"]
    pids = [
        int(subprocess.check_output([sys.executable, "-c", script, str(folder)]))
        for folder in folders
    ]
    try:
        assert [list(marked(folder)) for folder in folders] == [[pid] for pid in pids]
        assert list(ProcessTree(folders[0]).look_everywhere()) == pids[:1]
    finally:
        for folder in folders:
            end_all(marked(folder), patience_s=1)
    assert live(pids) == []


def test_the_port_of_a_failed_start_is_free(env: dict[str, str]) -> None:
    finstage(env, "up", "await_ready")

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", int(env["FINSTAGE_PORT"])))
