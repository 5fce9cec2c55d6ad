"""Every block of README.md and docs, run as a reader would run it in a clone of the project.

Pages speak of a service at 127.0.0.1:8000; that is the shared one here. What cannot be typed
beside it is in tests/elsewhere.py with its reason, pages of a browser are in
tests/browser/test_guide_dashboard.py, what is shown and not typed is in
tests/unit/test_guide_blocks.py.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import websockets

from tests.conftest import needed
from tests.elsewhere import ELSEWHERE
from tests.guides import (
    NOTEBOOK,
    PAGES,
    Block,
    all_blocks,
    blocks,
    clone,
    commands,
    ends,
    here,
    in_one_shell,
    outputs,
)
from tests.service import Service

TIMEOUT_S = 180.0
LOOKED_AT_S = 3.0  # of a command that goes on until Ctrl-C
STOPPED = 124
_ERROR = re.compile(r'\{\s*"detail"')  # with which curl is content
_GOES_ON = re.compile(r"--follow|finstage record |curl -sN (?!.*\| head)")

SCRIPTS = {
    "README-python-1": r"^$",
    "alerts-python-1": r"^$",  # what it says is asked in tests/unit/test_guide_blocks.py
    "bot-python-1": r"'type': 'price_update'.*'symbol': 'AAPL'",
    "bot-python-2": r"(?:would (?:buy|sell) [A-Z]+ at [\d.]+, [+-][\d.]+ %\n){5}0 drops, 0 re",
    "bot-python-3": r"(?:AAPL [\d.]+ is (?:above|below) its EMA, RSI [\d.]+\n){5}",
    "bot-python-4": r"recovered: True\n(?:\d+ price_update [\d.]+\n){3}",
    "bot-python-5": r"signed: True AAPL .*an example",
    "bot-python-6": r"105 symbol 'APPL' is not known; nearest known: AAPL",
    "guide-python-1": r"^$",
    "guide-python-2": r"(?:AAPL|IBM) [\d.]+\n(?:AAPL|IBM) [\d.]+\n",
    "memory-python-1": r"^$",
    "protocol-python-1": r'"type":"subscription".*\n.*"type":"price_update"',
    "tasks-python-1": r"^$",
    "tasks-python-2": r"'status': .*\n\{'worst_pct': -[\d.]+\}\n\[\{'worst_pct'.*\{.*\{",
    "tasks-python-3": r"^$",
    "tasks-python-4": r"AAPL: [\d.]+ %\n[\d.]+\nnarrow: 11.1 %\n\{'range_pct': [\d.]+\}\n",
}
ENDLESS = {"guide-python-2", "protocol-python-1"}  # until Ctrl-C
CELLS = (
    r"open .*close +volume\n.*opened_at",
    r"\^GSPC +[\d.]+",
    r"symbol 'APPL' is not known; nearest known: AAPL",
    r"AAPL +[\d.]+ +[\d.]+ +[\d.]+",
    r"'AAPL': \{.*'macd'",
    r"close +rsi\(14\) +sma\(50\)\n.*opened_at",
    r"^\d of \d+\n",
    r"\['.+'\]",
    r"^-\d+\.\d+$",
)


@pytest.fixture(scope="module")
def environment(service: Service, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a reader's shell would have: a home, where the service is, and nothing of this run."""
    shared = service.environment
    own = {
        name: value for name, value in shared.items()
        if not name.startswith("FINSTAGE_") and name != "VIRTUAL_ENV"
    }  # fmt: skip
    places = [part for part in shared["PATH"].split(":") if not Path(part, "finstage").exists()]
    direct = {name: "127.0.0.1,localhost" for name in ("no_proxy", "NO_PROXY")}
    told = ("FINSTAGE_PORT", "FINSTAGE_DATA_DIR")
    return (
        own
        | direct
        | {name: shared[name] for name in told}
        | {
            "HOME": str(tmp_path_factory.mktemp("home")),
            "PATH": ":".join(places),
            "COLUMNS": "200",
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone, in which the pages' commands are typed."""
    return clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture
def _as_before(http: httpx.Client) -> Iterator[None]:
    """Take back what blocks make, also where one fails: others count it."""
    yield
    for rule in http.get("/api/v2/alerts/price").json()["items"]:
        http.delete(f"/api/v2/alerts/price/{rule['id']}")
    http.delete("/api/v2/alerts/rules/slow_answers")
    http.post("/api/v2/ab-tests/cache/stop")
    http.delete("/api/v2/ab-tests/cache")
    http.post("/api/v2/optimization/enable", json={"rule_id": "caching_price_data"})


def test_each_script_has_what_it_should_print() -> None:
    scripts = [block.name for block in all_blocks("python") if block.page != NOTEBOOK]
    assert scripts == list(SCRIPTS)
    assert set(SCRIPTS) >= ENDLESS


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize(
    "block",
    [block for block in all_blocks("python") if block.page != NOTEBOOK],
    ids=lambda block: block.name,
)
def test_a_script_does_what_its_page_says(
    block: Block, service: Service, environment: dict[str, str], folder: Path
) -> None:
    text = here(block.text, service.url, service.settings.data_dir)
    if block.awaits:
        arguments, given = ["-m", "tests.guides"], json.dumps([text])
    else:
        (folder / "script.py").write_text(text)
        arguments, given = ["script.py"], ""
    wanted = re.compile(SCRIPTS[block.name], re.DOTALL)

    code, printed = _run(
        [sys.executable, "-u", *arguments], given, environment, folder,
        wanted if block.name in ENDLESS else None,
    )  # fmt: skip

    assert code == 0, f"{block.where}\n{printed}"
    assert wanted.search(printed.removesuffix("\x1e")), f"{block.where}\n{printed}"


def _run(
    command: list[str],
    given: str,
    environment: dict[str, str],
    folder: Path,
    until: re.Pattern[str] | None,
) -> tuple[int, str]:
    """Run a program to its end, or until it printed that; return its exit code and its words."""
    output = folder / "output.txt"
    with output.open("wb") as words:
        child = subprocess.Popen(
            command, env=environment, cwd=folder, text=True,
            stdin=subprocess.PIPE, stdout=words, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert child.stdin is not None
        child.stdin.write(given)
        child.stdin.close()
        deadline_s = time.monotonic() + TIMEOUT_S
        try:
            while child.poll() is None and time.monotonic() < deadline_s:
                if until is not None and until.search(output.read_text()):
                    return 0, output.read_text()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(0.1)
        finally:
            child.kill()
            child.wait()
    return child.returncode, output.read_text()


def test_a_rule_that_is_refused_is_told_by_the_page(
    service: Service, environment: dict[str, str], folder: Path
) -> None:
    text = here(blocks("bot", "python")[4].text, service.url, service.settings.data_dir)
    (folder / "script.py").write_text(text.replace("price > 1 and", "prize > 1 and"))

    code, printed = _run([sys.executable, "script.py"], "", environment, folder, None)

    assert code == 1
    assert "no rule was made" in printed
    assert "'prize'" in printed
    assert "Traceback" not in printed


def test_the_cells_of_the_notebook_work_in_their_order(
    service: Service, environment: dict[str, str], folder: Path
) -> None:
    cells = blocks(NOTEBOOK, "python")
    texts = [here(cell.text, service.url, service.settings.data_dir) for cell in cells]

    done = subprocess.run(
        [sys.executable, "-m", "tests.guides"],
        input=json.dumps(texts),
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    shown = list(outputs(done.stdout))
    assert len(shown) == len(cells) == len(CELLS)
    for cell, text, expected in zip(cells, shown, CELLS, strict=True):
        assert re.search(expected, text, re.DOTALL | re.MULTILINE), f"{cell.where}\n{text}"


def typed(page: str) -> list[tuple[Block, str]]:
    """Return the commands of a page that are run here."""
    told = [(block, one) for block in blocks(page, "console") for one in commands(block)]
    return [(block, one) for block, one in told if one not in ELSEWHERE]


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize("page", [page for page in PAGES if typed(page)])
def test_the_commands_of_a_page_work_in_their_order(
    page: str, service: Service, environment: dict[str, str], tmp_path: Path
) -> None:
    needed("curl", shutil.which("curl") is not None)
    told = [
        (block, here(command, service.url, service.settings.data_dir,
                     service.state.ports["dashboard"]))
        for block, command in typed(page)
    ]  # fmt: skip
    goes_on = [bool(_GOES_ON.search(command)) for _, command in told]
    lines = [
        f"timeout -s INT {LOOKED_AT_S:g} {command}" if endless else command
        for (_, command), endless in zip(told, goes_on, strict=True)
    ]

    done = subprocess.run(
        ["bash", "-c", in_one_shell(lines)],
        env=environment,
        cwd=clone(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )

    found = ends(done.stdout)
    assert len(found) == len(told), done.stdout + done.stderr
    for (block, command), endless, (printed, code) in zip(told, goes_on, found, strict=True):
        where = f"{block.where}: {command}\n{printed}"
        assert code == (STOPPED if endless else 0), where
        assert bool(_ERROR.match(printed)) == bool(_ERROR.search(block.text)), where
        assert printed or not command.startswith("curl") or " > " in command, where


async def test_each_request_on_the_page_of_the_protocol_is_taken(service: Service) -> None:
    texts = [block.text for block in blocks("protocol", "json") if '"action":' in block.text]
    requests = [text for text in texts if '"type":"subscription"' not in text]
    requests = [text for text in requests if '"type":"system_status"' not in text]
    assert len(requests) >= 6
    url = service.url.replace("http", "ws") + "/ws/realtime"
    for text in requests:
        async with websockets.connect(url, proxy=None) as socket:
            await socket.recv()
            request = json.loads(text.replace("…", ""))
            await socket.send(json.dumps(request))
            while (answer := json.loads(await socket.recv())).get("id") != request["id"]:
                pass
            assert answer["type"] in ("subscription", "heartbeat"), f"{text}{answer}"
