"""All jobs by name, found in this folder."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping

import pipelines.jobs as folder
from pipelines.jobs.base import Job


@functools.cache
def all_jobs() -> Mapping[str, Job]:
    """Return every job of the folder's modules that list them as `JOBS`."""
    found: dict[str, Job] = {}
    for module in pkgutil.iter_modules(folder.__path__):
        loaded = importlib.import_module(f"{folder.__name__}.{module.name}")
        for job in getattr(loaded, "JOBS", ()):
            if job.spec.name in found:
                raise ValueError(f"two jobs are called {job.spec.name}")
            found[job.spec.name] = job
    return found
