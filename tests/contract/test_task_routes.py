"""The task routes: what they answer, and what they refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.local import LocalService

SUBMIT = {"task_name": "process_dataset", "kwargs": {"symbol": "AAPL"}}


@pytest.fixture
async def full(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    local = LocalService(tmp_path, max_tasks=1)
    transport = httpx.ASGITransport(local.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as http:
        yield http


async def test_a_full_queue_says_when_to_come_again(full: httpx.AsyncClient) -> None:
    assert (await full.post("/api/tasks/submit", json=SUBMIT)).status_code == 202
    refused = await full.post("/api/tasks/submit", json=SUBMIT)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["detail"]["code"] == "task_queue_full"


async def test_a_task_from_submission_to_retry(client: httpx.AsyncClient) -> None:
    body = SUBMIT | {"priority": "low", "webhook": "https://hooks.example.com/x"}
    first = (await client.post("/api/tasks/submit", json=body)).json()["data"]
    assert first["webhook_secret"].startswith("whsec_")
    path = f"/api/tasks/task/{first['task_id']}"
    shown = (await client.get(path)).json()["data"]
    assert (shown["status"], shown["priority"], shown["progress"]) == ("pending", "low", 0.0)
    unfinished = await client.get(f"{path}/result")
    assert unfinished.status_code == 409
    assert unfinished.json()["detail"]["context"] == {"status": "pending"}
    assert (await client.post(f"{path}/retry")).status_code == 409
    assert (await client.post(f"{path}/cancel")).json()["success"] is True
    result = (await client.get(f"{path}/result")).json()
    assert (result["status"], result["error_code"]) == ("cancelled", "cancelled")
    assert (await client.get(f"{path}/result/file")).status_code == 409
    assert (await client.post(f"{path}/retry")).json()["success"] is True


async def test_lists_are_filtered_and_paged(client: httpx.AsyncClient) -> None:
    for number in range(5):
        body = {"task_name": "cleanup_data", "kwargs": {"days_to_keep": number + 1}}
        await client.post("/api/tasks/submit", json=body)
    await client.post("/api/tasks/submit", json=SUBMIT)
    page = (await client.get("/api/tasks?name=cleanup_data&size=2&page=2")).json()
    assert [item["task_name"] for item in page["items"]] == ["cleanup_data"] * 2
    assert page["pagination"] == {
        "page": 2, "size": 2, "total": 5, "total_pages": 3, "has_next": True, "has_prev": True,
    }  # fmt: skip
    unheld = (await client.get("/api/tasks", params={"name": "größe"})).json()
    assert (unheld["items"], unheld["pagination"]["total"]) == ([], 0)
    assert (await client.get("/api/tasks/task/größe")).status_code == 404
    none = (await client.get("/api/tasks?status=failed")).json()
    assert none["items"] == []


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({"task_name": "proces_dataset"}, 404, "process_dataset"),
        ({"task_name": "process_dataset"}, 422, "symbol"),
        (SUBMIT | {"kwargs": {"symbol": "AAPL", "period": "9y"}}, 422, "period"),
        (SUBMIT | {"kwargs": {"symbol": "AAPL", "speed": 1}}, 422, "speed"),
        (SUBMIT | {"args": ["AAPL"]}, 422, "multiple"),
        (SUBMIT | {"priority": "medium"}, 422, "critical"),
        (SUBMIT | {"webhook": "http://127.0.0.1/x"}, 422, "private"),
        (SUBMIT | {"webhook": "mailto://x"}, 422, "http"),
        (SUBMIT | {"timeout_s": 0}, 422, "timeout_s"),
        ({}, 422, "task_name"),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, body: dict[str, object], status: int, named: str
) -> None:
    answer = await client.post("/api/tasks/submit", json=body)
    assert answer.status_code == status, answer.text
    assert named in answer.text


async def test_keys_make_one_task(client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k"}
    ids = {
        (await client.post("/api/tasks/submit", json=SUBMIT, headers=headers)).json()["data"][
            "task_id"
        ]
        for _ in range(3)
    }
    assert len(ids) == 1
