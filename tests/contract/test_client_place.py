"""A client that was not told where to ask finds this machine's service, or says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import finstage
from infra.errors import ActorError, ConfigError, RequestError
from serve.client.place import place_of
from serve.state import State
from tests.service import environment, free_port
from tests.settings import made_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [n for n in os.environ if n.startswith("FINSTAGE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)  # where no .env is
    monkeypatch.setenv("FINSTAGE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("FINSTAGE_PORT", "8123")
    return tmp_path


def runs(data_dir: Path, url: str, created_s: float | None = None) -> None:
    """Let a state file tell of this process as the service."""
    own_s = psutil.Process().create_time() if created_s is None else created_s
    state = State(os.getpid(), own_s, url, "127.0.0.1:1", "", {}, "", 0.0, ready=True)
    state.write(made_settings(data_dir=data_dir))


def test_nothing_that_runs_leaves_the_port_of_the_settings(data_dir: Path) -> None:
    assert finstage.Client().url == "http://127.0.0.1:8123"
    assert finstage.StreamClient()._url == "ws://127.0.0.1:8123/ws/realtime"


def test_what_runs_on_the_data_directory_goes_before_the_port(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs(data_dir, "http://127.0.0.1:8456")
    assert finstage.Client().url == "http://127.0.0.1:8456"
    assert finstage.StreamClient()._url == "ws://127.0.0.1:8456/ws/realtime"

    monkeypatch.setenv("FINSTAGE_URL", "https://finstage.example/")
    assert finstage.Client().url == "https://finstage.example"
    assert finstage.Client("http://other:1").url == "http://other:1"


def test_what_ran_and_is_gone_does_not_count(data_dir: Path) -> None:
    runs(data_dir, "http://127.0.0.1:8456", created_s=1.0)

    assert finstage.Client().url == "http://127.0.0.1:8123"


def test_the_key_goes_with_the_service_that_was_found_and_to_no_other(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINSTAGE_API_KEYS", "desk:0123456789abcdef")

    assert place_of(None, None).key == "0123456789abcdef"
    assert place_of(None, "mine").key == "mine"
    assert place_of("http://elsewhere:1", None).key is None


def test_what_is_no_url_is_said(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match="must start with http"):
        finstage.StreamClient("127.0.0.1:8000")
    monkeypatch.setenv("FINSTAGE_URL", "127.0.0.1:8000")
    with pytest.raises(ConfigError, match="FINSTAGE_URL"):
        finstage.Client()


@pytest.mark.parametrize(
    "code",
    [
        "finstage.Client().quotes(['AAPL'])",
        "import asyncio; asyncio.run(anext(finstage.StreamClient().subscribe('AAPL')))",
        "finstage.connect().__enter__()",
    ],
)
def test_where_nobody_answers_one_short_error_says_what_to_do(tmp_path: Path, code: str) -> None:
    env = environment(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", f"import finstage; {code}"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    lines = done.stderr.splitlines()
    assert done.returncode == 1
    assert "start it with" in lines[-1]
    assert "During handling" not in done.stderr
    assert "direct cause" not in done.stderr
    frames = [line for line in lines if line.startswith("  File")]
    assert len(frames) <= 10, done.stderr


@pytest.mark.parametrize("name", ["notebook", "stream", "driver", "tasks"])
def test_an_example_without_a_service_ends_in_one_line(tmp_path: Path, name: str) -> None:
    env = environment(tmp_path)
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py")],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    (said,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert "start it with" in said
    if name in ("notebook", "stream"):
        assert f":{env['FINSTAGE_PORT']}:" in said


async def test_a_stream_asks_nobody_for_a_second_before_it_says_so(data_dir: Path) -> None:
    stream = finstage.StreamClient(f"http://127.0.0.1:{free_port()}")

    with pytest.raises(ActorError, match="FINSTAGE_URL or FINSTAGE_DATA_DIR"):
        await anext(stream.subscribe("AAPL"))
    assert stream.drops == 3
