"""After the last session the replay starts over: a new epoch, a new version, everybody told."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import orjson
import websockets

from tests.service import Service, running, wait_until

SESSIONS = 125
SESSION_S = 0.5


def version(service: Service) -> str:
    url = f"{service.url}/api/v2/technical-analysis/indicators/META"
    return str(httpx.get(url, timeout=10, trust_env=False).json()["data_version"])


async def resync(service: Service) -> tuple[dict[str, object], dict[str, object]]:
    """Return the answer to a subscription, and what is told when the run starts over."""
    async with asyncio.timeout(120):
        # In a loop: the young ingress may answer 503 at first.
        async for ws in websockets.connect(f"ws{service.url[4:]}/ws/realtime"):
            await ws.send('{"action":"subscribe","type":"prices","symbols":["META"]}')
            await ws.recv()
            answer = orjson.loads(await ws.recv())
            async for text in ws:
                message = orjson.loads(text)
                if message.get("action") == "snapshot":
                    return answer, message
    raise AssertionError("the socket closed")


def test_a_run_that_starts_over_is_told_and_forgets_its_bars(tmp_path: Path) -> None:
    started_at_s = time.time() - SESSIONS * SESSION_S + 38  # the run ends 38 s from here
    with running(
        tmp_path,
        replay_session_s=SESSION_S,
        replay_ticks=4,
        replay_started_at_s=started_at_s,
    ) as service:
        answer, told = asyncio.run(resync(service))

        wait_until(lambda: "-0-" not in version(service), 5, "indicators of the new run")
        url = f"{service.url}/api/v2/prices/META/history?period=max"
        history = httpx.get(url, timeout=10, trust_env=False).json()

    assert told["epoch"] != answer["epoch"]
    assert told["recovered"] is False
    assert history["data_points"] < 71 + SESSIONS


def given(service: Service) -> list[dict[str, Any]]:
    url = f"{service.url}/api/v2/alerts/fired?limit=1000"
    items: list[dict[str, Any]] = httpx.get(url, timeout=10, trust_env=False).json()["items"]
    return [alert for alert in items if alert["symbol"]]


def keys(alerts: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(alert["symbol"], alert["rule_id"]) for alert in alerts}


def test_a_second_start_gives_what_the_first_gave(tmp_path: Path) -> None:
    with running(tmp_path, replay_session_s=2) as service:
        wait_until(lambda: len(given(service)) > 3, 30, "alerts of the first run")
        before = given(service)

    with running(tmp_path, replay_session_s=2) as service:
        wait_until(lambda: keys(before) & keys(given(service)), 30, "one of them again")
        now = given(service)
    assert not {alert["alert_id"] for alert in before} & {alert["alert_id"] for alert in now}
