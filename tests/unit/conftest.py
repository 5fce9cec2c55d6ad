"""Unit tests start no Ray and open no connection; whoever tries is told."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, NoReturn

import pytest
import ray

from tests.local import LocalService


def _no_ray(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("a unit test must not start Ray: move it to tests/integration")


def _no_connection(*_: Any) -> NoReturn:
    raise RuntimeError("a unit test must not open a connection: move it to tests/integration")


@pytest.fixture(autouse=True)
def _nothing_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "init", _no_ray)
    monkeypatch.setattr(socket.socket, "connect", _no_connection)
    for name in ("FINSTAGE_PORT", "FINSTAGE_DATA_DIR", "FINSTAGE_API_KEYS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def local(tmp_path: Path) -> LocalService:
    return LocalService(tmp_path)
