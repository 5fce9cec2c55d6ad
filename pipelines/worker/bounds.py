"""What a task may say of itself, cut to what a queue can keep and a database takes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from pipelines.worker.attempt import Ended

LONGEST_WAIT_S = 31_536_000.0  # a year, the most that HTTP's `delay_s` asks for
ERROR_CHARS = 10_000
MESSAGE_CHARS = 200
_CODE_CHARS = 64
_WORKER_CHARS = 100
_LAST_S = 253_402_300_799.0  # the end of 9999


def bounded_s(value: Any, most_s: float = LONGEST_WAIT_S) -> float | None:
    """Return seconds between 0 and the most; None for what is no number."""
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return None if math.isnan(seconds) else min(most_s, max(0.0, seconds))


def plain_text(value: Any, most_chars: int) -> str:
    """Return text that is UTF-8; half a character, which Python allows, becomes `?`."""
    return str(value)[:most_chars].encode("utf-8", "replace").decode()


def plain_code(value: Any) -> str:
    """Return an error's code in ASCII."""
    return plain_text(value, _CODE_CHARS).encode("ascii", "replace").decode() or "error"


def moment_s(value: Any) -> float:
    """Return Unix seconds that a calendar has."""
    return bounded_s(value, _LAST_S) or 0.0


def pct(value: Any) -> float:
    """Return per cent between 0 and 100."""
    return bounded_s(value, 100.0) or 0.0


def bounded(ended: Ended) -> Ended:
    """Return how a try ended in values that can be kept."""
    return replace(
        ended,
        started_s=moment_s(ended.started_s),
        finished_s=moment_s(ended.finished_s),
        worker=plain_text(ended.worker, _WORKER_CHARS),
        progress=pct(ended.progress),
        error_code=None if ended.error_code is None else plain_code(ended.error_code),
        error=plain_text(ended.error, ERROR_CHARS),
        is_retryable=bool(ended.is_retryable),
        after_s=bounded_s(ended.after_s),
    )
