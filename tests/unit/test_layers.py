"""Imports point one way, libraries have one home, and unit tests cannot start Ray."""

from __future__ import annotations

import ast
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

ROOT = Path(__file__).parents[2]
LAYERS = ("infra", "actors", "pipelines", "serve")
HOMES = {
    "fastapi": ("serve",),
    "starlette": ("serve",),
    "uvicorn": ("serve",),
    "typer": ("serve",),
    "talib": ("actors/indicators",),
    "sqlalchemy": ("infra/db",),
    "alembic": ("infra/db",),
    "aiosqlite": ("infra/db/engine.py",),
    "asyncmy": (),
    "numba": ("actors/indicators/live/kernel.py",),
    "redis": ("infra/caches/redis_level.py",),
    "lark": ("actors/indicators/language.py",),
    "apscheduler": ("pipelines/jobs/spec.py",),
    "yfinance": ("infra/sources",),
    "exchange_calendars": ("infra/calendars.py",),
    "aiohttp": ("infra/sources", "infra/notify", "serve/client"),
    "httpx": (
        "serve/client",
        "serve/cli/up.py",
        "serve/cli/status.py",
        "serve/cli/local_http.py",
        "serve/cli/dashboard.py",
    ),
    "limits": ("serve",),
    "cachetools": (
        "infra/caches/memory.py",
        "infra/sources/steady.py",
        "infra/sources/imported.py",
        "serve/edge/last_good.py",
    ),
}
HOSTS = {"actors/cache/actor.py": "actors.telemetry."}  # an actor with another's part in it
NO_RAY = ("infra", "serve/client", "pipelines/driver/market.py", "pipelines/driver/analysis.py")


def modules() -> list[Path]:
    return [path for layer in LAYERS for path in (ROOT / layer).rglob("*.py")]


def imports(path: Path, when_run: bool = False) -> Iterator[str]:
    """Return what a file imports; `when_run`: without what only the type checker sees."""
    tree = ast.parse(path.read_text())
    if when_run:
        tree = WhenRun().visit(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


class WhenRun(ast.NodeTransformer):
    def visit_If(self, node: ast.If) -> Any:
        is_checked = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return node.orelse if is_checked else self.generic_visit(node)


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", modules(), ids=label)
def test_imports_point_leftwards(path: Path) -> None:
    own = LAYERS.index(label(path).split("/")[0])

    wrong = {
        name
        for name in imports(path)
        if name.split(".")[0] in LAYERS[own + 1 :] or name.split(".")[0] == "finstage"
    }

    assert not wrong


@pytest.mark.parametrize("path", modules(), ids=label)
def test_libraries_stay_at_home(path: Path) -> None:
    place = label(path)

    wrong = {
        name
        for name in imports(path)
        for library, homes in HOMES.items()
        if name.split(".")[0] == library and not place.startswith(homes)
    }
    if place.startswith(NO_RAY) or place.endswith("core.py"):
        wrong |= {name for name in imports(path) if name.split(".")[0] == "ray"}

    assert not wrong


@pytest.mark.parametrize("path", modules(), ids=label)
def test_actors_are_seen_through_their_clients(path: Path) -> None:
    place = label(path)
    own = "/".join(place.split("/")[:2])
    wires = place in ("serve/app.py",)

    wrong = {
        name
        for name in imports(path)
        if name.startswith("actors.")
        and len(name.split(".")) > 2
        and "/".join(name.split(".")[:2]) != own
        and not (ROOT / "actors" / f"{name.split('.')[1]}.py").exists()  # runtime, joining
        and name.split(".")[2] != "client"
        and not name.startswith(HOSTS.get(place, name + "."))
    }

    assert wires or not wrong


def test_modules_import_each_other_without_a_cycle() -> None:
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in modules()}
    graph = {
        name: {i for i in imports(path, when_run=True) if i in names}
        for name, path in names.items()
    }
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for other in graph[name]:
                walk(other, (*trail, name))
            done.add(name)

    for name in graph:
        walk(name, ())


def test_a_unit_test_cannot_start_ray() -> None:
    with pytest.raises(RuntimeError, match="must not start Ray"):
        ray.init()


def test_a_unit_test_cannot_open_a_connection() -> None:
    with (
        socket.socket() as probe,
        pytest.raises(RuntimeError, match="must not open a connection"),
    ):
        probe.connect(("127.0.0.1", 1))
