"""A start on a Ray that runs already: where it failed is said."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from infra.errors import StartFailed
from serve.cli import join
from serve.cli.join import JoinedService
from tests.settings import made_settings

STAGES = {
    "join_ray": "joining Ray at 127.0.0.1:1",
    "deploy": "starting the actors and the applications",
    "await_ready": "waiting for the first answer",
    "deploy_rest": "starting jobs, tasks, alerts and the monitor",
}


@pytest.mark.parametrize("name", STAGES)
def test_a_joined_start_that_fails_says_in_which_stage(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stage(of: str) -> Any:
        def act(*_: object) -> object:
            if of == name:
                raise OSError("no room")
            return SimpleNamespace(address_info={"address": "127.0.0.1:1"})

        return act

    for one in STAGES:
        monkeypatch.setattr(join, one, stage(one))
    for one in ("setup_logs", "upgrade_store", "listens"):
        monkeypatch.setattr(join, one, lambda *_: True)
    monkeypatch.setattr(JoinedService, "_refuse_taken_prefixes", lambda _: None)
    service = JoinedService(made_settings(data_dir=tmp_path), Console(quiet=True), "127.0.0.1:1")

    with pytest.raises(StartFailed, match=f"no start, {STAGES[name]}: no room"):
        service.run()
