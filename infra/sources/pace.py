"""How often an upstream may be asked: a token bucket whose rate its refusals teach."""

from __future__ import annotations

import random

TICK_S = 1e-6  # what a wait may lack at its end: floats do not add up to the exact instant
LONGEST_PAUSE_S = 3_600.0  # a Retry-After beyond this is taken for a mistake

_FLOOR = 1 / 64  # part of the full rate that is left after six refusals in a row
_RECOVERY = 1 / 100  # part of the full rate that a success gives back: 50 make up for a refusal
_BACKOFF_BASE_S = 0.5
_BACKOFF_CAP_S = 30.0


def backoff_s(rng: random.Random, failures: int) -> float:
    """Return a random wait after `failures` earlier ones in a row: exponential, full jitter.

    Uniform from 0 to 0.5 s · 2^failures, at most 30 s; source: Brooker, "Exponential Backoff And
    Jitter", AWS Architecture Blog, 2015.
    """
    # Ten doublings are past the cap; 2.0 ** 1024 overflows.
    return rng.uniform(0.0, min(_BACKOFF_CAP_S, _BACKOFF_BASE_S * 2.0 ** min(failures, 10)))


class Pace:
    """Token bucket with additive increase and multiplicative decrease (AIMD) of its rate.

    Times are monotonic seconds, and never go back from call to call. The bucket starts full.
    A request that was under way when a refusal came says nothing new: such refusals halve the
    rate once, and such successes do not raise it.
    """

    def __init__(self, per_s: float, burst: int, rng: random.Random, now_s: float) -> None:
        self._per_s = self._rate_per_s = per_s
        self._burst = float(burst)
        self._rng = rng
        self._tokens = self._burst
        self._counted_at_s = now_s
        self._limited_at_s = float("-inf")
        self._limited_in_row = 0
        self._paused_until_s = float("-inf")

    @property
    def rate_per_s(self) -> float:
        """The rate that the upstream is thought to allow."""
        return self._rate_per_s

    @property
    def paused_until_s(self) -> float:
        """When the last pause ends or ended; minus infinity if there was none."""
        return self._paused_until_s

    def wait_s(self, now_s: float, place: int = 1) -> float:
        """Return the seconds until the request at `place` of the queue (1: the first) may go."""
        resumed_s = max(now_s, self._paused_until_s)
        missing = place - self._tokens_at(resumed_s)
        return resumed_s - now_s + max(0.0, missing) / self._rate_per_s

    def take(self, now_s: float) -> None:
        """Spend one token; the caller has seen that there is one."""
        self._count(now_s)
        self._tokens -= 1.0

    def give_back(self) -> None:
        """Return the token of a request that was not sent after all."""
        self._tokens += 1.0

    def succeeded(self, started_s: float) -> None:
        """Note an answer to a request started at `started_s`: the rate grows by a step."""
        if started_s > self._limited_at_s:
            self._count(started_s)
            self._limited_in_row = 0
            step = self._per_s * _RECOVERY
            self._rate_per_s = min(self._per_s, self._rate_per_s + step)

    def limited(self, started_s: float, now_s: float, retry_after_s: float) -> bool:
        """Note a refusal (429): pause, and halve the rate; return whether it told anything new.

        The pause is what Retry-After asks for, or a random backoff where that is 0.
        """
        is_new = started_s > self._limited_at_s
        pause_s = max(0.0, min(retry_after_s, LONGEST_PAUSE_S))
        self._count(now_s)
        if is_new:
            pause_s = pause_s or backoff_s(self._rng, self._limited_in_row)
            self._limited_in_row += 1
            self._limited_at_s = now_s
            self._rate_per_s = max(self._per_s * _FLOOR, self._rate_per_s / 2)
        self._paused_until_s = max(self._paused_until_s, now_s + pause_s)
        return is_new

    def _count(self, now_s: float) -> None:
        """Book the tokens up to now, as they come at another rate afterwards."""
        self._tokens = self._tokens_at(now_s)
        self._counted_at_s = max(now_s, self._counted_at_s)

    def _tokens_at(self, at_s: float) -> float:
        tokens, since_s = self._tokens, self._counted_at_s
        if since_s < self._paused_until_s:
            # A pause ends with one token at most: the return must not be a burst.
            until_s = min(at_s, self._paused_until_s)
            tokens = min(1.0, tokens + max(0.0, until_s - since_s) * self._rate_per_s)
            since_s = max(since_s, until_s)
        return min(self._burst, tokens + max(0.0, at_s - since_s) * self._rate_per_s)
