"""Python programs join the running service: through Ray, and over HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.service import Service

EXAMPLES = Path(__file__).parents[2] / "examples"

WRONG_TOKEN = """
import finstage
try:
    with finstage.connect(address="{address}", token="{token}") as market:
        market.quotes(["AAPL"])
except finstage.FinstageError as error:
    print("refused:", error)
"""


def run(service: Service, *command: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    env |= {k: v for k, v in service.environment.items() if k.startswith("FINSTAGE_")}
    return subprocess.run(
        [sys.executable, *command],
        env=env,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_the_driver_example_analyses_three_symbols(service: Service) -> None:
    result = run(service, str(EXAMPLES / "driver.py"))

    assert result.returncode == 0, result.stderr
    for symbol in ("AAPL", "MSFT", "IBM"):
        assert symbol in result.stdout


def test_the_notebook_example_needs_http_only(service: Service) -> None:
    result = run(service, str(EXAMPLES / "notebook.py"), service.url)

    assert result.returncode == 0, result.stderr
    assert "AAPL" in result.stdout


def test_a_wrong_token_is_refused_in_one_sentence(service: Service) -> None:
    code = WRONG_TOKEN.format(address=service.state.address, token="0" * 64)

    result = run(service, "-c", code)

    assert "refused:" in result.stdout, result.stdout + result.stderr


def test_both_ways_give_the_same(service: Service) -> None:
    code = """
import asyncio, finstage, os
url = "http://127.0.0.1:" + os.environ["FINSTAGE_PORT"]
async def both():
    async with finstage.connect() as ray_market, finstage.Client(url) as http_market:
        for _ in range(3):  # a session may end between the two
            one = await ray_market.history("IBM", period="1y")
            two = await http_market.history("IBM", period="1y")
            if one.attrs["data_version"] == two.attrs["data_version"]:
                break
        assert one.equals(two), (one.tail(2), two.tail(2))
        assert list((await ray_market.quotes(["AAPL"])).index) == ["AAPL"]
asyncio.run(both())
with finstage.connect() as market:
    print("rows", len(market.history("IBM", period="1y")))
"""
    result = run(service, "-c", code)

    assert result.returncode == 0, result.stderr
    assert "rows 25" in result.stdout
