"""Why a source does not answer now, as facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infra.clock import utc


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with a source, and since when.

    `cause` is a stable name: limited, dns, refused, timeout, unreachable, failing, unauthorized,
    malformed, or waiting while the first answer is yet to come. `text` says it to people.
    `retry_at_s`: when it is tried again, None where that is at the next question. Unix seconds.
    `is_paused`: until then no question goes out; else one may be answered all the same.
    """

    source: str
    cause: str
    text: str
    since_s: float
    retry_at_s: float | None = None
    is_paused: bool = False

    def retry_after_s(self, now_s: float) -> float | None:
        """Return the seconds until it is tried again."""
        return None if self.retry_at_s is None else max(0.0, self.retry_at_s - now_s)

    def body(self, now_s: float) -> dict[str, Any]:
        """Return it as the API shows it."""
        retry_at = None if self.retry_at_s is None else utc(self.retry_at_s).isoformat()
        return {
            "cause": self.cause,
            "text": self.text,
            "since": utc(self.since_s).isoformat(),
            "retry_at": retry_at,
            "retry_after_s": self.retry_after_s(now_s),
        }

    def sentence(self, now_s: float) -> str:
        """Return it in words."""
        left_s = self.retry_after_s(now_s)
        return self.text if left_s is None else f"{self.text}, tried again in {left_s:.0f} s"
