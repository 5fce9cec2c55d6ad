"""What the running service keeps: imports that it notices, jobs that it runs."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import websockets

from tests.service import Service, run_finstage, wait_until


def job(http: httpx.Client, name: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = http.get("/api/scheduler/jobs").json()["jobs"]
    return next(row for row in rows if row["name"] == name)


def run(http: httpx.Client, name: str) -> dict[str, Any]:
    """Run a job to its end."""
    wait_until(lambda: not job(http, name)["running"], 30, f"{name} before")
    started = http.post(f"/api/scheduler/jobs/{name}/run")
    assert started.status_code == 200, started.text
    wait_until(lambda: not job(http, name)["running"], 30, name)
    row = job(http, name)
    assert row["last_outcome"] == "ok", row
    return row


async def snapshot(service: Service, symbol: str) -> dict[str, Any]:
    """Return the first price that a socket gets."""
    url = service.url.replace("http", "ws") + "/ws/realtime"
    async with asyncio.timeout(30):
        async for socket in websockets.connect(url):
            ask = {"action": "subscribe", "type": "prices", "symbols": [symbol]}
            await socket.send(orjson.dumps(ask).decode())
            async for text in socket:
                message: dict[str, Any] = orjson.loads(text)
                if message.get("symbol") == symbol:
                    return message
                for found in message.get("snapshot", ()):
                    if found.get("symbol") == symbol:
                        return dict(found)
    raise AssertionError("the socket closed")


def test_an_import_is_served_seconds_later(
    http: httpx.Client, service: Service, tmp_path: Path
) -> None:
    file = tmp_path / "own.csv"
    lines = [f"2024-03-{day:02},{day},{day + 1},{day - 1},{day},100" for day in range(4, 9)]
    file.write_text("\n".join(["date,open,high,low,close,volume", *lines]))
    assert http.get("/api/v2/prices/OWN.X/history").status_code == 404

    done = run_finstage("import", str(file), "--symbol", "own.x", env=service.environment)

    assert done.returncode == 0, done.stdout + done.stderr
    url = "/api/v2/prices/OWN.X/history?period=max"
    wait_until(lambda: http.get(url).status_code == 200, 5, "an import is served")
    history = http.get(url).json()
    assert (history["source"], history["close"]) == ("import", [4.0, 5.0, 6.0, 7.0, 8.0])
    indicators = http.get("/api/v2/technical-analysis/indicators/OWN.X").json()
    assert indicators["indicators"]["sma"]["5"] == 6.0
    quote = http.get("/api/v2/quotes?symbols=OWN.X").json()["quotes"]["OWN.X"]
    assert (quote["current_price"], quote["market_status"]) == (8.0, "closed")
    assert asyncio.run(snapshot(service, "OWN.X"))["current_price"] == 8.0
    coverage = http.get("/api/v2/coverage/OWN.X").json()
    assert coverage["intervals"][0]["bars"] == 5
    assert coverage["gaps"]["1d"] == {"sessions": 0, "dates": []}

    # A second import of the same symbol replaces what is served
    file.write_text(file.read_text() + "\n2024-03-11,9,10,8,9,100")
    run_finstage("import", str(file), "--symbol", "own.x", env=service.environment)
    wait_until(lambda: len(http.get(url).json()["close"]) == 6, 5, "the next import is served")

    # Whoever names a source says whose bars these are
    assert {path: sources_in(http, path) for path in NAMING} == dict.fromkeys(NAMING, {"import"})
    body = {"symbols": ["OWN.X"], "expression": "close > 0"}
    screened = http.post("/api/v2/technical-analysis/screen", json=body).json()
    assert (screened["source"], screened["matched_symbols"]) == ("import", 1)
    analysed = http.post("/api/v2/technical-analysis/batch/indicators", json=["OWN.X"]).json()
    assert analysed["source"] == analysed["results"]["OWN.X"]["source"] == "import"
    both = http.get("/api/v2/quotes?symbols=OWN.X,IBM").json()
    assert both["source"] == "replay+import"

    # Deleted, the symbol is unknown again, and leaves what was monitored
    assert http.post("/api/v2/symbols", json={"symbols": ["OWN.X"]}).status_code == 200
    assert http.delete("/api/v2/prices/OWN.X/import?interval=15m").status_code == 404
    gone = http.delete("/api/v2/prices/OWN.X/import")
    assert gone.json()["deleted"] == [{"interval": "1d", "bars": 6}]
    wait_until(lambda: http.get(url).status_code == 404, 5, "a deleted import is unknown")
    errors = "/api/v2/quotes?symbols=OWN.X"
    wait_until(lambda: "OWN.X" in http.get(errors).json()["errors"], 5, "its price is gone")
    assert http.get("/api/v2/coverage/OWN.X").status_code == 404
    again = http.delete("/api/v2/prices/OWN.X/import")
    assert (again.status_code, again.json()["detail"]["code"]) == (404, "not_imported")
    items = http.get("/api/v2/symbols").json()["items"]
    assert "OWN.X" not in [item["symbol"] for item in items]


NAMING = (
    "/api/v2/prices/OWN.X/history?period=max",
    "/api/v2/quotes?symbols=OWN.X",
    "/api/v2/actions/OWN.X",
    "/api/v2/symbols/OWN.X",
    "/api/v2/async/symbols/OWN.X/price",
    "/api/v2/async/symbols/batch?symbols=OWN.X",
    "/api/v2/async/technical/analysis/OWN.X",
    "/api/v2/coverage/OWN.X",
    "/api/v2/market-price/current/OWN.X",
    "/api/v2/market-price/snapshots/summary?symbols=OWN.X",
    "/api/v2/technical-analysis/indicators/OWN.X",
    "/api/v2/technical-analysis/indicators/OWN.X?indicators=rsi(21)",
    "/api/v2/technical-analysis/prices/batch?symbols=OWN.X&include_history=true",
    "/api/v2/technical-analysis/prices/monitor?symbols=OWN.X",
    "/api/v2/technical-analysis/ranking?by=close&symbols=OWN.X",
    "/api/v2/technical-analysis/live/OWN.X",
    "/api/v2/search?q=OWN.X",
)


def sources_in(http: httpx.Client, path: str) -> set[str]:
    """Return all that an answer calls a source, at any depth."""
    answer = http.get(path)
    assert answer.status_code == 200, f"{path}: {answer.text}"
    return set(_sources(answer.json()))


def _sources(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "source":
                yield inner
            yield from _sources(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _sources(inner)


def test_imported_bars_of_a_symbol_of_the_source_come_and_go(
    http: httpx.Client, service: Service, tmp_path: Path
) -> None:
    url = "/api/v2/prices/MSFT/history?period=max"
    before = http.get(url).json()
    file = tmp_path / "msft.csv"
    days = ["1986-03-13", "1986-03-14", "2024-03-04"]
    file.write_text("\n".join(["date,open,high,low,close", *(f"{d},10,12,9,11" for d in days)]))

    done = run_finstage("import", str(file), "--symbol", "MSFT", env=service.environment)

    assert "1 of 3 bars lie after 201" in done.stdout, done.stdout + done.stderr
    wait_until(lambda: http.get(url).json()["source"] == "replay+import", 5, "old bars are served")
    both = http.get(url).json()
    assert both["sessions"][:2] == ["1986-03-13", "1986-03-14"]
    assert both["sessions"][2] == before["sessions"][0]
    quote = http.get("/api/v2/quotes?symbols=MSFT").json()
    live = http.get("/api/v2/technical-analysis/live/MSFT").json()
    assert quote["source"] == "replay"
    assert live["source"] == "replay+import"

    done = run_finstage("delete", "MSFT", env=service.environment)

    assert "MSFT 1d: 3 imported bars deleted" in done.stdout, done.stdout + done.stderr
    wait_until(lambda: http.get(url).json()["source"] == "replay", 5, "they are gone")
    assert http.get(url).json()["sessions"][0] == before["sessions"][0]


def test_coverage_says_what_is_served_before_anything_is_stored(http: httpx.Client) -> None:
    coverage = http.get("/api/v2/coverage/^IXIC")

    assert coverage.status_code == 200
    assert coverage.json()["served"]["source"] == "replay"
    assert coverage.json()["served"]["bars"] > 2_000


def test_jobs_run_when_asked_and_tell_what_they_did(http: httpx.Client) -> None:
    before = job(http, "records.extremes")["runs"]
    row = run(http, "records.extremes")
    run(http, "snapshots.close")
    run(http, "snapshots.high")
    run(http, "snapshots.low")

    records = http.get("/api/v2/market-price/high-records/summary?symbols=AAPL,IBM").json()
    snapshots = http.get("/api/v2/market-price/snapshots/summary").json()
    detailed = http.get("/api/v2/market-price/current/AAPL?include_details=true").json()["data"]

    assert row["runs"] == before + 1
    assert row["last_duration_seconds"] > 0
    assert row["next_run_at"] > row["last_run_at"]
    assert records["with_records"] == 2
    assert not records["stale"]
    assert snapshots["with_complete_data"] == snapshots["total_symbols"] > 5
    details = detailed["details"]
    high = details["high_record_summary"]["price"]
    assert details["price_summary"]["all_time_high"] == high > detailed["current_price"] / 2


def test_two_of_a_job_never_run_at_once(http: httpx.Client) -> None:
    wait_until(lambda: not job(http, "bars.daily")["running"], 30, "bars.daily before")
    answers = [http.post("/api/scheduler/jobs/bars.daily/run") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 409, 409]
    assert answers[1].json()["detail"]["code"] == "job_running"
    wait_until(lambda: not job(http, "bars.daily")["running"], 30, "bars.daily")
    coverage = http.get("/api/v2/coverage/AAPL").json()
    assert coverage["intervals"][0]["source"] == "replay"
    assert coverage["intervals"][0]["bars"] > 2_000


def test_results_are_saved_when_asked(http: httpx.Client, service: Service) -> None:
    body = {"symbols": ["AAPL", "IBM"], "save_results": True}
    answer = http.post("/api/v2/technical-analysis/analysis/comprehensive", json=body)
    stats = http.get("/api/database/query-stats?limit=100").json()

    assert answer.status_code == 200
    summary = http.get("/api/database/performance-summary").json()
    assert summary["total_queries"] > 0
    assert summary["status"] in ("EXCELLENT", "GOOD")
    written = [q for q in stats["query_statistics"] if "analyses" in q["table_names"]]
    assert sum(q["execution_count"] for q in written) >= 1
    assert any(process.startswith("feed-") for process in stats["processes"])
    reset = http.post("/api/database/maintenance/reset-metrics").json()
    assert [name.split("-")[0] for name in reset["processes"]] == ["api", "feed", "scheduler"]
    fewer = http.get("/api/database/performance-summary").json()["total_queries"]
    assert fewer < summary["total_queries"]


def test_the_scheduler_remembers_pauses_when_it_is_killed(http: httpx.Client) -> None:
    name = "news.futures"
    assert http.post(f"/api/scheduler/jobs/{name}/pause").json()["paused"] is True
    runs = job(http, "snapshots.close")["runs"]
    pid = scheduler_pid(http)

    os.kill(pid, signal.SIGKILL)

    def replaced() -> bool:
        checks = http.get("/health/ready").json()["checks"]["scheduler"]
        return bool(checks["status"] == "ok" and checks["detail"] != f"pid {pid}")

    wait_until(replaced, 5, "the scheduler after kill -9")
    assert job(http, name)["paused"] is True
    assert job(http, name)["next_run_at"] is None
    assert job(http, "snapshots.close")["runs"] == runs
    assert http.post(f"/api/scheduler/jobs/{name}/resume").json()["paused"] is False
    assert run(http, name)["last_outcome"] == "ok"


def test_a_job_whose_process_is_killed_is_told_as_lost(http: httpx.Client) -> None:
    import psutil

    wait_until(lambda: not job(http, "analysis.technical")["running"], 30, "analysis before")
    http.post("/api/scheduler/jobs/analysis.technical/run")

    def kill() -> bool:
        for process in psutil.process_iter(["cmdline"]):
            if (process.info["cmdline"] or [""])[0].startswith("ray::run_job"):
                process.kill()
                return True
        return not job(http, "analysis.technical")["running"]

    wait_until(kill, 20, "the job's process", every_s=0.005)
    wait_until(lambda: not job(http, "analysis.technical")["running"], 30, "its end")
    if job(http, "analysis.technical")["last_outcome"] == "ok":
        pytest.skip("it was over before it could be killed")
    assert job(http, "analysis.technical")["last_outcome"] == "lost"
    assert "process" in job(http, "analysis.technical")["last_message"]
    assert run(http, "analysis.technical")["last_outcome"] == "ok"


def scheduler_pid(http: httpx.Client) -> int:
    checks = http.get("/health/ready").json()["checks"]
    return int(checks["scheduler"]["detail"].removeprefix("pid "))


def test_the_command_line_shows_runs_and_pauses_jobs(service: Service, http: httpx.Client) -> None:
    def finstage(*arguments: str) -> tuple[int, str]:
        done = run_finstage(*arguments, env=service.environment | {"COLUMNS": "200"})
        return done.returncode, done.stdout + done.stderr

    code, shown = finstage("jobs")
    assert code == 0
    assert "bars.daily" in shown
    code, ran = finstage("jobs", "run", "snapshots.low")
    assert (code, "snapshots.low: ok in" in ran) == (0, True)
    code, paused = finstage("jobs", "pause", "news.stocks")
    assert "is paused" in paused
    assert job(http, "news.stocks")["paused"] is True
    finstage("jobs", "resume", "news.stocks")
    code, unknown = finstage("jobs", "run", "nope")
    assert code == 2
    assert "there are analysis.technical" in unknown


def test_a_backup_of_a_running_service_holds_what_it_kept(
    service: Service, http: httpx.Client, tmp_path: Path
) -> None:
    run(http, "snapshots.close")
    file = tmp_path / "backup.db"

    done = run_finstage("backup", str(file), env=service.environment)
    refused = run_finstage("restore", str(file), "--yes", env=service.environment)

    assert done.returncode == 0, done.stderr
    assert file.stat().st_size > 10_000
    assert refused.returncode == 2
    assert "finstage down" in refused.stderr
