"""Whether an event loop runs in this thread."""

from __future__ import annotations

import asyncio


def loop_runs() -> bool:
    """Return whether the caller is inside a running loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
