"""Runs of a source that plays the past: when the present one began, and what is of it."""

from __future__ import annotations

import pytest

from infra.clock import FakeClock, utc
from infra.sources.replay import REPLAYED_SESSIONS, ReplaySource, load_records
from infra.sources.runs import Run, RunWatch, present_run, run_number
from tests.settings import made_settings

STARTED_S = 1_700_000_000.0
RUN_S = REPLAYED_SESSIONS * 60.0


@pytest.mark.parametrize(
    ("after_s", "began_s"),
    [(0.0, 0.0), (RUN_S - 0.01, 0.0), (RUN_S, RUN_S), (2.5 * RUN_S, 2 * RUN_S), (-9.0, 0.0)],
)
def test_a_replay_begins_anew_after_its_last_session(after_s: float, began_s: float) -> None:
    settings = made_settings().begun(STARTED_S)
    run = present_run("replay", settings, STARTED_S + after_s)
    assert run == Run("replay", utc(STARTED_S + began_s))


def test_a_recording_has_one_run_and_what_goes_on_has_none() -> None:
    settings = made_settings().begun(STARTED_S)
    assert present_run("recording", settings, STARTED_S + RUN_S).began_at == utc(STARTED_S)
    for source in ("yahoo", "simulated"):
        assert present_run(source, settings, STARTED_S + RUN_S) == Run(source)
    assert present_run("replay", made_settings(), STARTED_S) == Run("replay")


def test_versions_of_a_replay_name_the_run() -> None:
    clock = FakeClock(STARTED_S)
    source = ReplaySource({"AAPL": load_records()["AAPL"]}, clock, STARTED_S)
    watch = RunWatch()
    told = []
    for _ in range(3):
        version = source.quote_now("AAPL").data_version
        told.append((run_number(version), watch.take(version)))
        clock.advance(RUN_S)
    started = int(STARTED_S)
    assert told == [((started, 0), "same"), ((started, 1), "new"), ((started, 2), "new")]
    assert watch.take(f"replay-{started}-1-124") == "over"
    assert watch.take(f"replay-{started + 1}-0-3") == "new"


@pytest.mark.parametrize("version", ["yahoo-1-2", "import-3", "", "simulated-20260304"])
def test_data_of_no_run_are_always_the_same(version: str) -> None:
    assert run_number(version) is None
    assert RunWatch().take(version) == "same"
