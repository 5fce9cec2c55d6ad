"""This process as a driver of a running service."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def joined(data_dir: Path) -> Iterator[None]:
    """Join the service of a data directory, and leave it."""
    from pipelines.driver.joining import join

    joined_here = join(None, None, data_dir)
    try:
        yield
    finally:
        if joined_here:
            import ray

            ray.shutdown()
