"""Every block of the pages in docs/use, run as a reader would run it.

Pages speak of a service at 127.0.0.1:8000; that is the shared one here. Pages of a browser are in
tests/browser/test_guide_dashboard.py.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import needed
from tests.guides import (
    ELSEWHERE,
    NOTEBOOK,
    PAGES,
    Block,
    all_blocks,
    blocks,
    commands,
    here,
    outputs,
)
from tests.service import Service

TIMEOUT_S = 180.0
_ERROR = re.compile(r'\{\s*"detail"')  # with which curl is content

SCRIPTS = {
    "bot-python-1": r"'type': 'price_update'.*'symbol': 'AAPL'",
    "bot-python-2": r"(?:would (?:buy|sell) [A-Z]+ at [\d.]+, [+-][\d.]+ %\n){5}0 drops, 0 re",
    "bot-python-3": r"(?:AAPL [\d.]+ is (?:above|below) its EMA, RSI [\d.]+\n){5}",
    "bot-python-4": r"recovered: True\n(?:\d+ price_update [\d.]+\n){3}",
    "bot-python-5": r"signed: True AAPL .*an example",
    "bot-python-6": r"105 symbol 'APPL' is not known; nearest known: AAPL",
}
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
def environment(service: Service) -> dict[str, str]:
    """What a reader's shell would have, in the folder of the shared service."""
    folder = str(Path(sys.executable).parent)
    env = service.environment
    direct = {name: "127.0.0.1,localhost" for name in ("no_proxy", "NO_PROXY")}
    return env | direct | {"PATH": f"{folder}:{env['PATH']}", "COLUMNS": "200"}


@pytest.fixture
def _rules_are_taken_back(http: httpx.Client) -> Iterator[None]:
    """Also where a block that made one fails: others count them."""
    yield
    for rule in http.get("/api/v2/alerts/price").json()["items"]:
        http.delete(f"/api/v2/alerts/price/{rule['id']}")


def test_each_script_has_what_it_should_print() -> None:
    scripts = [block.name for block in all_blocks("python") if block.page != NOTEBOOK]
    assert scripts == sorted(SCRIPTS)


@pytest.mark.usefixtures("_rules_are_taken_back")
@pytest.mark.parametrize(
    "block",
    [block for block in all_blocks("python") if block.page != NOTEBOOK],
    ids=lambda block: block.name,
)
def test_a_script_does_what_its_page_says(
    block: Block, service: Service, environment: dict[str, str], tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(here(block.text, service.url, service.settings.data_dir))

    done = subprocess.run(
        [sys.executable, str(script)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )

    assert done.returncode == 0, f"{block.where}\n{done.stdout}{done.stderr}"
    assert re.search(SCRIPTS[block.name], done.stdout, re.DOTALL), f"{block.where}\n{done.stdout}"


def test_the_cells_of_the_notebook_work_in_their_order(
    service: Service, environment: dict[str, str], tmp_path: Path
) -> None:
    cells = blocks(NOTEBOOK, "python")
    texts = [here(cell.text, service.url, service.settings.data_dir) for cell in cells]

    done = subprocess.run(
        [sys.executable, "-m", "tests.guides"],
        input=json.dumps(texts),
        env=environment,
        cwd=tmp_path,
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


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work_in_their_order(
    page: str, service: Service, environment: dict[str, str], tmp_path: Path
) -> None:
    needed("curl", shutil.which("curl") is not None)
    ran = 0
    for block in blocks(page, "console"):
        for command in commands(block):
            if command in ELSEWHERE:
                continue
            text = here(command, service.url, service.settings.data_dir)
            done = subprocess.run(
                ["bash", "-c", text],
                env=environment,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
            told = f"{block.where}: {text}\n{done.stdout}{done.stderr}"
            assert done.returncode == 0, told
            assert not _ERROR.match(done.stdout), told
            assert done.stdout or not text.startswith("curl"), told
            ran += 1
    assert ran or page == NOTEBOOK
