"""Ray's own metrics: the few that an operator of this service asks for, with few labels."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import urllib.request
from collections.abc import Iterable

logger = logging.getLogger(__name__)

# What is kept, and by which labels it is summed: never by worker, task name or session.
SELECTED: dict[str, tuple[str, ...]] = {
    "ray_node_cpu_utilization": ("ip",),
    "ray_node_mem_used": ("ip",),
    "ray_node_mem_total": ("ip",),
    "ray_node_disk_utilization_percentage": ("ip",),
    "ray_object_store_memory": ("Location",),
    "ray_tasks": ("State",),
    "ray_actors": ("State",),
    "ray_scheduler_unscheduleable_tasks": ("Reason",),
    "ray_serve_num_http_requests_total": ("application",),
    "ray_serve_deployment_replica_healthy": ("deployment",),
}
_FRESH_S = 10.0
_WITHIN_S = 5.0
_LINE = re.compile(r"(\w+)\{(.*)\} (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Sums = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class RayMetrics:
    """The last answers of the nodes' exporters. State: the text, up to ten seconds old, soft."""

    def __init__(self) -> None:
        self._text = b""
        self._asked_s = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    async def text(self, urls: Iterable[str]) -> bytes:
        """Return Prometheus text; where it is old it is asked for anew, for the next time.

        Only who asks first waits. A node that does not answer is left out.
        """
        if self._asking is None and time.monotonic() - self._asked_s >= _FRESH_S:
            self._asking = asyncio.create_task(self._ask(tuple(urls)))
        if not self._text and self._asking is not None:
            await asyncio.shield(self._asking)
        return self._text

    async def _ask(self, urls: tuple[str, ...]) -> None:
        try:
            self._text = await asyncio.to_thread(_fetched, urls)
        finally:
            self._asked_s = time.monotonic()
            self._asking = None


def _fetched(urls: Iterable[str]) -> bytes:
    sums: Sums = {}
    for url in urls:
        try:
            with urllib.request.urlopen(url, timeout=_WITHIN_S) as answer:
                add_up(answer.read().decode(), sums)
        except OSError as error:
            logger.info("ray_metrics.unread", extra={"reason": type(error).__name__})
    return rendered(sums)


def add_up(text: str, sums: Sums) -> None:
    """Add the selected samples of a node's text to what others said."""
    names = tuple(name + "{" for name in SELECTED)
    for line in text.splitlines():
        if not line.startswith(names):
            continue
        found = _LINE.match(line)
        if found is None:
            continue
        name, labels, value = found.groups()
        given = dict(_LABEL.findall(labels))
        if given.get("Source") == "executor":  # the same actors as their owner's count
            continue
        key = name, tuple((label, given.get(label, "")) for label in SELECTED[name])
        sums[key] = sums.get(key, 0.0) + float(value)


def rendered(sums: Sums) -> bytes:
    """Return sums as Prometheus text."""
    lines: list[str] = []
    before = ""
    for (name, labels), value in sorted(sums.items()):
        if name != before:
            kind = "counter" if name.endswith("_total") else "gauge"
            lines.append(f"# TYPE {name} {kind}")
            before = name
        shown = ",".join(f'{label}="{text}"' for label, text in labels)
        lines.append(f"{name}{{{shown}}} {value}")
    return "".join(line + "\n" for line in lines).encode()
