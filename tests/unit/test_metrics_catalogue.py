"""The catalogue of metrics is what the processes register, row by row."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest
import ray

from infra.caches.base import SharedLevel, SharedState
from infra.caches.counted import CacheFigures
from infra.caches.named import NamedCaches
from infra.metrics import REGISTRY

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "metrics.md"
ROW = re.compile(r"\| `([a-z_]+)` \| (counter|gauge|histogram) \|([^|]*)\| ([^|]+) \|")


class Kept(NamedTuple):
    """What a row says of a metric, or a registry: its type, and its labels in order of name."""

    kind: str
    labels: tuple[str, ...]


@functools.cache
def registered() -> dict[str, Kept]:
    """Return every metric of this project by the name that is asked for, `…_total` too."""
    for path in modules_that_count():
        importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    level = SimpleNamespace(state=SharedState("actor"), stats=lambda: ())
    caches = NamedCaches()
    caches.attach(cast(SharedLevel, level))
    collectors = [*REGISTRY._collector_to_names, CacheFigures("test-1", caches)]
    return dict(kept for one in collectors for kept in _families_of(one))


def modules_that_count() -> Iterator[Path]:
    """Yield the modules that know prometheus-client."""
    for layer in ("infra", "actors", "pipelines", "serve"):
        for path in sorted((ROOT / layer).rglob("*.py")):
            if "prometheus_client" in path.read_text(encoding="utf-8"):
                yield path


def samples_of(name: str, kind: str) -> tuple[str, ...]:
    """Return the names under which a metric's samples stand on the page."""
    return (
        tuple(f"{name}_{end}" for end in ("bucket", "sum", "count"))
        if kind == "histogram"
        else (name,)
    )


def _families_of(collector: Any) -> Iterator[tuple[str, Kept]]:
    for family in collector.collect():
        labels: tuple[str, ...] = getattr(
            collector, "_labelnames", getattr(family, "_labelnames", ())
        )
        end = "_total" if family.type == "counter" else ""
        yield family.name + end, Kept(family.type, tuple(sorted(labels)))


def catalogue() -> dict[str, Kept]:
    """Return the rows of the page, Ray's too."""
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    return {name: Kept(kind, tuple(sorted(_names(labels)))) for name, kind, labels, _ in rows}


def _names(cell: str) -> Iterable[str]:
    return re.findall(r"`([A-Za-z_]+)`", cell)


OURS = {name: kept for name, kept in catalogue().items() if name.startswith("finstage_")}


@pytest.mark.parametrize("name", sorted(registered()))
def test_each_registered_metric_has_its_row(name: str) -> None:
    assert catalogue().get(name) == registered()[name]


@pytest.mark.parametrize("name", sorted(OURS))
def test_each_row_is_a_metric_that_is_registered(name: str) -> None:
    assert registered().get(name) == OURS[name]


def test_no_metric_has_two_rows() -> None:
    names = [row[0] for row in ROW.findall(PAGE.read_text(encoding="utf-8"))]

    assert sorted(names) == sorted(set(names))


def test_gauges_say_whose_they_are_and_counters_do_not() -> None:
    """Processes are summed on the page; a sum of gauges would mean nothing."""
    for name, kept in OURS.items():
        assert ("process" in kept.labels) == (kept.kind == "gauge"), name


def test_each_label_is_explained() -> None:
    explained = set(re.findall(r"^\| `([a-z_]+)` \| [^|]+ \|$", PAGE.read_text(), re.MULTILINE))

    assert {label for kept in OURS.values() for label in kept.labels} == explained


def test_rays_rows_are_metrics_that_this_ray_has() -> None:
    home = Path(ray.__file__).parent / "dashboard" / "modules"
    panels = home / "metrics" / "dashboards"
    texts = [
        home / "reporter" / "reporter_agent.py",
        panels / "default_dashboard_panels.py",
        panels / "serve_dashboard_panels.py",
    ]
    known = " ".join(path.read_text(encoding="utf-8") for path in texts)
    rows = {name.removeprefix("ray_") for name in catalogue() if name.startswith("ray_")}

    assert rows
    assert {name for name in rows if not re.search(rf"\b(ray_)?{name}\b", known)} == set()
