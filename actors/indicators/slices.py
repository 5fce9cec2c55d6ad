"""Long work in slices, between which an actor serves others."""

from __future__ import annotations

import asyncio
import time

LONGEST_S = 0.005


class Slice:
    """Counts the time since others had their turn."""

    def __init__(self) -> None:
        self._began_s = time.perf_counter()

    async def breathe(self) -> None:
        """Let others have their turn if the slice is over."""
        if time.perf_counter() - self._began_s > LONGEST_S:
            await asyncio.sleep(0)
            self._began_s = time.perf_counter()
