"""What all kinds of tests share: one service for the ordinary ones that need it."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import httpx
import pytest

from tests import guides
from tests.service import Service, running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let what a test wrote go between pytest's processes, half characters too."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report


def needed(what: str, there: bool) -> None:
    """Skip the test where something is missing on a user's machine; in CI that is a failure."""
    if there:
        return
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, which CI must have")
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The one Finstage of this run: a session lasts 20 s, so that versions change in sight."""
    folder = tmp_path_factory.mktemp("finstage")
    tasks = ",".join(("tests.fakes.tasks", *guides.modules(folder)))  # those of the pages too
    with running(
        folder,
        replay_session_s=20,
        log_level="DEBUG",
        notify_private=True,
        task_modules=tasks,
    ) as service:
        yield service


@pytest.fixture(scope="session")
def http(service: Service) -> Iterator[httpx.Client]:
    """A client of the shared service."""
    with httpx.Client(base_url=service.url, timeout=30, trust_env=False) as client:
        yield client
