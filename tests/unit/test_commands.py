"""Commands say in one line what stands in the way, and what to do about it."""

from __future__ import annotations

import io
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import httpx
import orjson
import pytest
from rich.console import Console
from typer.testing import CliRunner

from infra.errors import ConfigError
from serve.cli import main, submit
from serve.cli.bars import export_file
from serve.cli.dashboard import run_dashboard
from serve.cli.local_http import service_client
from tests.settings import made_settings

Answer = Callable[[httpx.Request], httpx.Response]


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# -- export --------------------------------------------------------------------------------------


def test_an_export_of_nothing_says_how_to_get_bars(tmp_path: Path) -> None:
    settings = made_settings(data_dir=tmp_path)
    with pytest.raises(ConfigError) as refused:
        export_file(settings, quiet(), tmp_path / "aapl.csv", "AAPL", "1d", "")
    assert "`finstage jobs run bars.daily`" in refused.value.message
    assert "/api/v2/prices/AAPL/history?period=max&interval=1d&format=csv" in refused.value.message


def test_an_export_replaces_no_file(tmp_path: Path) -> None:
    file = tmp_path / "aapl.csv"
    file.write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        export_file(made_settings(data_dir=tmp_path), quiet(), file, "AAPL", "1d", "")
    assert file.read_text() == "mine"


# -- dashboard -----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_dashboard_says_that_its_port_is_taken(host: str) -> None:
    console = quiet()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} is taken"):
            run_dashboard("http://127.0.0.1:1", "", host, port, console)
    assert printed(console) == ""


# -- submit --------------------------------------------------------------------------------------


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], None]:
    """Let a function be the service that commands ask."""

    def patch(answer: Answer) -> None:
        client = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://desk:8000")
        monkeypatch.setattr(submit, "service_client", lambda _: client)

    return patch


def refusing_lists(_: httpx.Request) -> httpx.Response:
    item = {"loc": ["body", "kwargs", "symbols"], "msg": "Input should be a valid list"}
    return httpx.Response(422, json={"detail": [item]})


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("symbols=AAPL", '["AAPL"]'),
        ("symbols=AAPL,IBM", '["AAPL","IBM"]'),
        ("symbols=[AAPL, IBM", '["AAPL","IBM"]'),
        ("symbols=1", "[1]"),
    ],
    ids=["word", "commas", "broken JSON", "number"],
)
def test_it_is_said_how_a_list_is_written(
    given: str, shown: str, answering: Callable[[Answer], None]
) -> None:
    answering(refusing_lists)
    with pytest.raises(ConfigError) as refused:
        submit.submit_task(made_settings(), quiet(), "generate_report", [given], "", False)
    assert f"--arg 'symbols={shown}'" in refused.value.message


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (
            {"result": {"rows": 1, "files": {"html": "daily.html"}}},
            {
                "rows": 1,
                "files": {"html": "daily.html"},
                "urls": {"html": "http://desk:8000/api/tasks/reports/daily.html"},
            },
        ),
        ({"result_file": "/api/tasks/task/t/result/file"},
         "http://desk:8000/api/tasks/task/t/result/file"),
        ({"result": [1]}, [1]),
    ],
    ids=["report", "file", "plain"],
)  # fmt: skip
def test_what_a_task_left_is_told_by_its_url(
    result: dict[str, Any], told: Any, answering: Callable[[Answer], None]
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/result"):
            return httpx.Response(200, json=result)
        task = {"task_id": "t", "status": "completed", "progress": 100, "progress_message": ""}
        return httpx.Response(200, json={"data": task})

    answering(answer)
    console = quiet()
    assert submit.submit_task(made_settings(), console, "any", [], "", True) == 0
    assert orjson.loads(printed(console)) == told


def test_commands_ask_the_service_that_is_named(tmp_path: Path) -> None:
    settings = made_settings(data_dir=tmp_path, url="http://desk:8000")
    assert str(service_client(settings).base_url) == "http://desk:8000"
    with pytest.raises(ConfigError, match="nothing runs on"):
        service_client(made_settings(data_dir=tmp_path))


# -- logs ----------------------------------------------------------------------------------------


def test_a_process_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    result = CliRunner().invoke(main.app, ["logs", "--process", "nosuch"])
    assert result.exit_code == 2
    assert "indicators" in result.output


def test_every_process_that_writes_a_log_can_be_named() -> None:
    named = get_args(get_args(get_type_hints(main.logs)["process"])[0])
    sources = "".join(
        file.read_text()
        for folder in ("actors", "pipelines", "serve")
        for file in (Path(main.__file__).parents[2] / folder).rglob("*.py")
    )
    written = re.findall(r'^    role = "(\w+)"|setup_logs\([^,]+, "(\w+)"', sources, re.M)
    assert set(named) == {name for pair in written for name in pair if name}
