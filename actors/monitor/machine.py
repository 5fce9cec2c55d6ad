"""What the operating system says of this machine and of the service on it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

from actors.monitor.sampling import Machine
from infra.files import of_store

_MIB = 2**20


class MachineWatch:
    """Looks at the machine that this process runs on. Blocks for some milliseconds."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        psutil.cpu_percent(None)  # it tells of the time since the call before

    def look(self) -> Machine:
        """Return what there is now; raises StoreError where the data directory is not there.

        Memory of the service is resident, shared pages in each.
        """
        memory = psutil.virtual_memory()
        with of_store(self._data_dir):
            disk = psutil.disk_usage(str(self._data_dir))
        resident, proxies = _service()
        return Machine(
            cpu_percent=psutil.cpu_percent(None),
            memory_percent=memory.percent,
            memory_used_mb=(memory.total - memory.available) / _MIB,
            disk_usage_percent=disk.percent,
            service_memory_mb=resident / _MIB,
            haproxy_processes=proxies,
        )


def _service() -> tuple[int, int]:
    """Return the bytes of all processes of the service's session, and how many are HAProxy."""
    resident = proxies = 0
    root = psutil.Process().parent()
    with contextlib.suppress(psutil.Error):
        above = root.parent() if root is not None else None
        if above is not None and above.pid > 1:
            root = above
    for process in root.children(recursive=True) if root is not None else ():
        with contextlib.suppress(psutil.Error):
            resident += process.memory_info().rss
            proxies += process.name().startswith("haproxy")
    return resident, proxies
