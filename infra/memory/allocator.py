"""The C library's allocator: few arenas, and what is free goes back to the system."""

from __future__ import annotations

import ctypes
import gc
import sys
from functools import cache
from typing import Any

_M_ARENA_MAX, _ARENAS = -8, 2  # each arena keeps its own free memory; threads make one each


@cache
def _libc() -> Any:
    """Return glibc, or None where the C library is another."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None


def pin_arenas() -> bool:
    """Let the threads of this process share two arenas; False where that cannot be said."""
    library = _libc()
    return library is not None and bool(library.mallopt(_M_ARENA_MAX, _ARENAS))


def give_back() -> None:
    """Collect garbage and return what is free to the system, as far as the allocator can."""
    gc.collect()
    if (arrow := sys.modules.get("pyarrow")) is not None:
        arrow.default_memory_pool().release_unused()
    if (library := _libc()) is not None:
        library.malloc_trim(0)
