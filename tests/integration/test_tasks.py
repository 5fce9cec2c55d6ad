"""Background work of a running service: from Python, over HTTP, from the command line."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import orjson
import pandas as pd
import psutil
import pytest

import finstage
from infra.errors import TaskRejected
from tests.fakes import tasks
from tests.service import Service, run_finstage, wait_until


def told(text: str) -> None:
    sys.stdout.write(text + "\n")


ENDED = ("completed", "failed", "cancelled")


@pytest.fixture(scope="module")
def driver(service: Service) -> Iterator[Any]:
    with finstage.connect(data_dir=service.settings.data_dir) as connected:
        yield connected


@pytest.mark.usefixtures("driver")
class TestPython:
    """What a driver sees."""

    def test_a_call_is_a_handle_and_a_result(self) -> None:
        handle = tasks.noop(7)
        assert handle.result(60) == 7
        shown = handle.status()
        assert (shown["status"], shown["task_name"]) == ("completed", "tests.fakes.tasks.noop")
        assert finstage.task_queue.wait_for_task(handle.id, 10) == 7
        assert finstage.get_task_progress(handle.id)["progress"] == 100

    def test_arguments_and_results_are_what_the_function_says(self) -> None:
        assert tasks.day_after(date(2026, 2, 28), by=1).result(60) == {"day": "2026-03-01"}
        frame = tasks.frame(1_000).result(60)
        assert isinstance(frame, pd.DataFrame)
        assert frame["n"].sum() == 499_500
        assert len(tasks.large(200_000).result(60)) == 200_000

    def test_what_is_wrong_is_refused_before_it_is_stored(self) -> None:
        with pytest.raises(finstage.TaskError, match="first: .*integer.*second: "):
            tasks.add("x", "y")
        with pytest.raises(finstage.TaskError, match=r"second: missing"):
            tasks.add(1)
        with pytest.raises(finstage.TaskError, match="cannot be stored"):
            tasks.total([object()])

        @finstage.task
        def local_task() -> None: ...

        with pytest.raises(TaskRejected, match="FINSTAGE_TASK_MODULES"):
            local_task()

    def test_code_goes_through_ray_where_nothing_is_stored(self) -> None:
        factor = 3

        @finstage.task(durable=False)
        def times(number: int) -> int:
            return factor * number

        assert times(14).result(60) == 42

    def test_errors_are_tried_again_or_not(self) -> None:
        assert tasks.works_at(3).result(60) == 3
        with pytest.raises(finstage.TaskFailed, match="ValueError: because"):
            tasks.fails("because").result(60)
        with pytest.raises(finstage.TaskFailed, match="not JSON serializable: object"):
            tasks.not_storable().result(60)
        path = Path("/tmp") / f"finstage-test-{os.getpid()}-{time.time_ns()}"
        try:
            assert tasks.asks_for_later(str(path)).result(60) == "now"
        finally:
            path.unlink(missing_ok=True)

    def test_poison_is_a_dead_letter_and_takes_nothing_with_it(self) -> None:
        others = finstage.submit_many(tasks.noop.s(n) for n in range(50))
        poison = tasks.poison()
        with pytest.raises(finstage.TaskFailed, match="its process died"):
            poison.result(120)
        assert finstage.wait_for_all(others, 60) == list(range(50))
        assert poison.status()["retry_count"] == 2

    def test_what_sleeps_in_c_is_stopped_at_its_time(self) -> None:
        started_s = time.monotonic()
        with pytest.raises(finstage.TaskFailed, match=r"stopped after 0\.5 s"):
            tasks.sleeps_in_c(60).result(120)
        told(f"stopped {time.monotonic() - started_s:.2f} s after it was submitted")

    @pytest.mark.parametrize("function", [tasks.waits, tasks.sleeps], ids=["async", "plain"])
    def test_running_work_is_cancelled(self, function: Any) -> None:
        handle = function(60)
        wait_until(lambda: handle.status()["worker_id"], 10, "it runs")
        started_s = time.monotonic()
        assert handle.cancel("enough") is True
        with pytest.raises(finstage.TaskCancelled, match="enough"):
            handle.result(60)
        told(f"cancelled after {time.monotonic() - started_s:.2f} s (aim 1 s)")
        assert handle.cancel() is False

    def test_children_are_cancelled_with_their_parent(self) -> None:
        parent = tasks.has_children()
        wait_until(lambda: parent.progress()["progress"] == 50, 20, "it has children")
        children = [finstage.TaskHandle(i) for i in parent.progress()["message"].split(",")]
        assert all(child.status()["parent_id"] == parent.id for child in children)
        parent.cancel()
        for child in children:
            with pytest.raises(finstage.TaskCancelled):
                child.result(60)

    def test_shapes(self) -> None:
        add, total = tasks.add, tasks.total
        sides = finstage.group(add.s(1), add.s(2), join=total.s())
        assert finstage.submit_shape(finstage.chain(add.s(1, 2), add.s(3), sides)).result(60) == 15
        half = finstage.group(add.s(1, 1), tasks.fails.s(), join=total.s())
        with pytest.raises(finstage.TaskCancelled, match="is failed"):
            finstage.submit_shape(half).result(60)
        on = finstage.group(add.s(1, 1), tasks.fails.s(), join=total.s(), on_failure="go_on")
        assert finstage.submit_shape(on).result(60) == 2
        chosen = finstage.chain(
            finstage.when(add.s(1, 2), "", ">", 2, then=add.s(100), otherwise=add.s(-100)),
            add.s(1),
        )
        assert finstage.submit_shape(chosen).result(60) == 104
        made = finstage.template(
            finstage.chain(add.s(finstage.Param("x"), 1), add.s(finstage.Param("y")))
        )
        assert finstage.submit_shape(made, x=10, y=5).result(60) == 16
        with pytest.raises(TaskRejected, match="needs y"):
            finstage.submit_shape(made, x=10)

    def test_the_same_work_is_one_task(self) -> None:
        first, second = tasks.unique("AAPL", note="first"), tasks.unique("AAPL", note="second")
        assert first.id == second.id
        assert tasks.unique("MSFT").id != first.id
        assert second.result(60) == "first"
        keyed = tasks.noop.options(key="k-1")
        assert keyed(1).id == keyed(2).id

    def test_later_and_by_priority(self) -> None:
        started_s = time.monotonic()
        later = tasks.noop.options(delay_s=1.0)(5)
        assert later.status()["stage"] == "delayed"
        assert later.result(60) == 5
        assert time.monotonic() - started_s >= 1.0
        urgent = tasks.noop.options(priority=finstage.TaskPriority.CRITICAL)(6)
        assert urgent.status()["priority"] == "critical"
        assert urgent.result(60) == 6

    async def test_the_same_in_async_code(self) -> None:
        handle = tasks.noop(8)
        task_id = await handle
        assert handle.id == task_id
        assert await handle.result(60) == 8
        assert (await handle.status())["status"] == "completed"
        many = finstage.submit_many(tasks.noop.s(n) for n in range(3))
        assert await finstage.wait_for_all(many, 60) == [0, 1, 2]
        assert await asyncio.gather(*(h.result(60) for h in many)) == [0, 1, 2]


def submitted(http: httpx.Client, name: str, **kwargs: Any) -> str:
    answer = http.post("/api/tasks/submit", json={"task_name": name, "kwargs": kwargs})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["data"]["task_id"])


def ended(http: httpx.Client, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def is_over() -> bool:
        found.update(http.get(f"/api/tasks/task/{task_id}").json()["data"])
        return found["status"] in ENDED

    wait_until(is_over, 30, f"the end of {task_id}")
    return found


def test_a_built_in_task_over_http(http: httpx.Client) -> None:
    task_id = submitted(http, "process_dataset", symbol="AAPL", period="1y")
    early = http.get(f"/api/tasks/task/{task_id}/result")
    if early.status_code != 200:
        assert early.status_code == 409
        assert early.json()["detail"]["context"]["status"] in ("pending", "running")
    shown = ended(http, task_id)
    result = http.get(f"/api/tasks/task/{task_id}/result").json()

    assert shown["status"] == "completed", shown
    assert result["result"]["data_points"] > 240
    assert result["worker_id"] == shown["worker_id"]
    listed = http.get("/api/tasks?name=process_dataset&status=completed").json()
    assert task_id in [item["task_id"] for item in listed["items"]]
    assert http.post(f"/api/tasks/task/{task_id}/cancel").json()["success"] is False
    assert http.post(f"/api/tasks/task/{task_id}/retry").status_code == 409


def test_reports_are_pages(http: httpx.Client) -> None:
    answer = http.post("/api/tasks/quick/daily-report?symbols=AAPL,IBM").json()
    ended(http, answer["task_id"])
    files = http.get(f"/api/tasks/task/{answer['task_id']}/result").json()["result"]["files"]
    page = http.get(f"/api/tasks/reports/{files['html']}")

    assert page.headers["content-type"].startswith("text/html")
    assert "script" not in page.headers["content-security-policy"].replace("default-src", "")
    assert "<svg" in page.text
    assert http.get(f"/api/tasks/reports/{files['json']}").json()["report_type"] == "daily"
    assert http.get("/api/tasks/reports/nothing.html").status_code == 404
    assert http.get("/api/tasks/reports/..%2Fstore.db").status_code in (404, 422)


def test_technical_analysis_in_the_background(http: httpx.Client) -> None:
    route = "/api/v2/technical-analysis/analysis"
    queued = http.post(f"{route}/background?symbols=AAPL&symbols=IBM").json()
    assert queued["status"] == "queued"
    ended(http, queued["task_id"])
    answer = http.get(f"{route}/status/{queued['task_id']}").json()
    assert set(answer["result"]["results"]) == {"AAPL", "IBM"}


def test_frames_are_downloaded(http: httpx.Client) -> None:
    task_id = submitted(http, "tests.fakes.tasks.frame", rows=10)
    ended(http, task_id)
    where = http.get(f"/api/tasks/task/{task_id}/result").json()["result_file"]
    answer = http.get(where)
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    assert answer.content[:4] == b"PAR1"


def test_what_is_wrong_is_said_so(http: httpx.Client) -> None:
    unknown = http.post("/api/tasks/submit", json={"task_name": "process_datasets"})
    assert unknown.status_code == 404
    assert unknown.json()["detail"]["context"]["nearest"][0] == "process_dataset"
    wrong = http.post(
        "/api/tasks/submit",
        json={"task_name": "process_dataset", "kwargs": {"period": "9y", "speed": 3}},
    )
    assert wrong.status_code == 422
    assert {item["loc"][-1] for item in wrong.json()["detail"]} >= {"speed", "symbol"}
    assert http.get("/api/tasks/task/nothing").status_code == 404
    assert http.get("/api/tasks/task/nothing/result").status_code == 404
    assert http.post("/api/tasks/task/nothing/cancel").status_code == 404
    assert http.get("/api/tasks?status=lost").status_code == 422
    assert http.post("/api/tasks/submit?task_name=cleanup_data&kwargs=[]").status_code == 422
    quick = http.post("/api/tasks/quick/market-analysis?analysis_type=luck")
    assert quick.status_code == 422
    assert http.post("/api/tasks/quick/data-cleanup?days_to_keep=0").status_code == 422


def test_the_old_form_and_keys(http: httpx.Client) -> None:
    query = {"task_name": "tests.fakes.tasks.add", "args": "[1, 2]", "priority": "low"}
    headers = {"Idempotency-Key": "order-1"}
    answers = [
        http.post("/api/tasks/submit", params=query, headers=headers).json()["data"]
        for _ in range(2)
    ]
    assert answers[0]["task_id"] == answers[1]["task_id"]
    assert answers[0]["priority"] == "low"
    ended(http, answers[0]["task_id"])
    path = f"/api/tasks/task/{answers[0]['task_id']}/result"
    assert http.get(path).json()["result"] == 3


def test_the_queue_is_stopped_and_started(http: httpx.Client) -> None:
    assert http.post("/api/tasks/system/stop").json()["success"] is True
    try:
        task_id = submitted(http, "tests.fakes.tasks.noop", number=1)
        time.sleep(0.5)
        assert http.get(f"/api/tasks/task/{task_id}").json()["data"]["status"] == "pending"
        status = http.get("/api/tasks/status").json()["data"]
        assert status["system_status"] == "stopped"
        assert status["queue_statistics"]["pending_tasks"] >= 1
    finally:
        http.post("/api/tasks/system/start")
    assert ended(http, task_id)["status"] == "completed"
    dashboard = http.get("/api/tasks/dashboard").json()
    assert dashboard["system_status"] == "running"
    assert len(dashboard["recent_tasks"]) == 10
    assert http.get("/api/tasks/workers").json()["total_workers"] >= 1
    functions = http.get("/api/tasks/queue/stats").json()["registered_functions"]
    assert "market_analysis" in [function["name"] for function in functions]
    assert http.post("/api/tasks/maintenance/cleanup?max_age_hours=168").json()["removed"] == 0


async def test_progress_is_streamed(service: Service, http: httpx.Client) -> None:
    seen: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        stream = finstage.StreamClient(service.url)
        updates = stream.subscribe([], type="tasks")
        first = asyncio.ensure_future(anext(updates))
        await asyncio.sleep(1.0)
        task_id = await asyncio.to_thread(submitted, http, "tests.fakes.tasks.waits", seconds=1.0)
        seen.append(await first)
        async for update in updates:
            seen.append(update)
            if update.get("task_id") == task_id and update["status"] == "completed":
                break
        await updates.aclose()
    mine = [update for update in seen if update.get("task_id") == task_id]
    assert any(u["status"] == "running" and u["progress"] == 40 for u in mine)


def test_server_sent_events_of_tasks(service: Service, http: httpx.Client) -> None:
    url = f"{service.url}/ws/sse?type=tasks"
    with httpx.stream("GET", url, timeout=60, trust_env=False) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        while not next(lines).startswith("data:"):  # the answer to the subscription
            pass
        task_id = submitted(http, "tests.fakes.tasks.noop", number=1)
        for line in lines:
            if line.startswith("data:") and task_id in line:
                update = orjson.loads(line.removeprefix("data:"))
                if update["status"] == "completed":
                    break
    assert update["type"] == "task_update"


def test_the_command_line(service: Service) -> None:
    env = service.environment
    done = run_finstage("submit", "tests.fakes.tasks.add", "--arg", "first=1", "--arg",
                        "second=41", "--wait", env=env)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "42" in done.stdout
    failed = run_finstage("submit", "tests.fakes.tasks.fails", "--wait", env=env)
    assert failed.returncode == 1
    assert "ValueError: no" in failed.stdout
    wrong = run_finstage("submit", "nothing_of_this_name", env=env)
    assert wrong.returncode == 2
    assert "no task is called" in wrong.stderr
    shown = run_finstage("tasks", "--last", "5", env=env | {"COLUMNS": "200"})
    assert "tests.fakes.tasks.add" in shown.stdout


def queue_pid(service: Service) -> int:
    for process in psutil.Process(service.process.pid).children(recursive=True):
        if "TaskQueueActor" in " ".join(process.cmdline()):
            return process.pid
    return 0


@pytest.mark.usefixtures("driver")
def test_whatever_a_task_raises_is_its_end_and_never_the_queues(service: Service) -> None:
    before = queue_pid(service)
    handles = {kind: tasks.raises(kind) for kind in tasks.RAISED}
    beside = finstage.submit_many(tasks.noop.s(n) for n in range(50))
    assert finstage.wait_for_all(beside, 60) == list(range(50))
    for kind in ("inf", "1e308"):
        wait_until(lambda k=kind: handles[k].status()["status"] == "retrying", 60, kind)  # type: ignore[misc]
        assert handles.pop(kind).cancel() is True
    for kind, handle in handles.items():
        with pytest.raises(finstage.TaskFailed):
            handle.result(120)
        shown = handle.status()
        assert shown["retry_count"] == 1, (kind, shown)
        told(f"{kind}: {shown['error_code']}: {shown['error']}")
    assert queue_pid(service) == before


async def test_a_task_retried_from_many_sides_at_once_runs_once(
    service: Service, http: httpx.Client, tmp_path: Path
) -> None:
    path = tmp_path / "ran"
    task_id = submitted(http, "tests.fakes.tasks.ran_and_failed", path=str(path))
    assert ended(http, task_id)["status"] == "failed"
    url = f"{service.url}/api/tasks/task/{task_id}/retry"
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        answers = await asyncio.gather(*(client.post(url) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] + 9 * [409]
    assert ended(http, task_id)["status"] == "failed"
    assert len(path.read_text().splitlines()) == 2
    wait_until(
        lambda: http.get("/api/tasks/queue/stats").json()["stages"]["running"] == 0,
        20, "nothing runs",
    )  # fmt: skip


@pytest.mark.usefixtures("driver")
def test_a_killed_queue_loses_nothing(service: Service, tmp_path: Path) -> None:
    names = [f"n{number}" for number in range(300)]
    handles = finstage.submit_many(tasks.effect.s(str(tmp_path), name) for name in names)
    time.sleep(0.5)
    psutil.Process(queue_pid(service)).kill()
    more = tasks.noop(1)  # accepted while it comes back
    assert finstage.wait_for_all(handles, 120) == names
    assert more.result(60) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_the_webhook_of_a_task(service: Service, http: httpx.Client) -> None:
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    from infra.notify.signing import is_signed

    got: list[tuple[dict[str, str], bytes]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    answer = http.post(
        "/api/tasks/submit",
        json={
            "task_name": "tests.fakes.tasks.noop",
            "webhook": f"http://127.0.0.1:{server.server_port}/done",
        },
    ).json()["data"]
    wait_until(lambda: got, 20, "the webhook")
    server.shutdown()
    server.server_close()
    headers, body = got[0]
    assert is_signed(answer["webhook_secret"], headers, body, time.time())
    told = orjson.loads(body)
    assert answer["task_id"] in orjson.dumps(told).decode()
