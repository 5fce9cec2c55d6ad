"""How many messages one client may send."""

from __future__ import annotations


class Allowance:
    """A token bucket: `per_s` on the average, `most` at once. `now_s` never goes back."""

    def __init__(self, per_s: float, most: float, now_s: float) -> None:
        self.told = f"more than {per_s:g} messages a second"
        self._per_s = per_s
        self._most = most
        self._left = most
        self._at_s = now_s

    def take(self, now_s: float) -> bool:
        """Take one; False where none is left."""
        self._left = min(self._most, self._left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True
