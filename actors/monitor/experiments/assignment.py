"""Who gets which variant: a stable hash of the client, or chance for each request."""

from __future__ import annotations

import random
import re
from bisect import bisect_right
from collections.abc import Iterable
from hashlib import blake2b
from itertools import accumulate

from actors.monitor.experiments.definition import (
    RANDOM,
    RUNNING,
    Experiment,
    Variant,
    is_excluded,
)

_PARTS = 1_000_000  # of all traffic: 10,000ths of a percent
_MAX_PATHS = 4_096  # remembered; paths hold symbols, and anybody can ask for any


class Assigner:
    """The running tests among those given, ready to be asked for every request.

    `rng` deals out requests where the split is random.
    """

    def __init__(
        self, experiments: Iterable[Experiment], rng: random.Random | None = None
    ) -> None:
        self._experiments = tuple(one for one in experiments if one.status == RUNNING)
        self._patterns = [_pattern(one.target_endpoints) for one in self._experiments]
        self._bounds = {one.id: _bounds(one.variants) for one in self._experiments}
        self._rng = rng or random.Random()
        self._known: dict[str, tuple[Experiment, ...]] = {}

    def matching(self, path: str) -> tuple[Experiment, ...]:
        """Return the tests that a path takes part in, in the order given; cheap when known."""
        found = self._known.get(path)
        if found is None:
            found = self._match(path)
            if len(self._known) >= _MAX_PATHS:
                self._known.clear()
            self._known[path] = found
        return found

    def variant_of(self, experiment: Experiment, unit: str) -> Variant | None:
        """Return the variant of a unit (what `identifier` gives) in one of the running tests.

        None in a sticky test for a client that nothing identifies: it is not in the test. A random
        split is drawn anew at each call, whatever the unit. In a test of two variants, more
        traffic for the one that is not the control takes units from the control only; with more
        variants those in between move. Raises KeyError for a test that does not run.
        """
        bounds = self._bounds[experiment.id]
        if experiment.traffic_split_method == RANDOM:
            point = self._rng.randrange(_PARTS)
        elif unit:
            digest = blake2b(f"{experiment.id}:{unit}".encode(), digest_size=8).digest()
            point = int.from_bytes(digest) % _PARTS
        else:
            return None
        return experiment.variants[bisect_right(bounds, point)]

    def _match(self, path: str) -> tuple[Experiment, ...]:
        if is_excluded(path):
            return ()
        pairs = zip(self._experiments, self._patterns, strict=True)
        return tuple(one for one, pattern in pairs if pattern.fullmatch(path))


def identifier(method: str, *, key_name: str, session_cookie: str, client_id: str) -> str:
    """Return what a client is known by in a sticky test, "" if by nothing or in a random one.

    Of the API key's name, the cookie `session_id` and the header `X-Client-Id` the first that is
    there, in the method's order. Never the address: HAProxy's is the same for all.
    """
    order = {
        "user_id": (key_name, client_id),
        "session_id": (session_cookie, key_name, client_id),
        "custom_hash": (client_id, key_name, session_cookie),
    }
    return next((name for name in order.get(method, ()) if name), "")


def hashed(experiment_id: str, unit: str) -> str:
    """Return what stands for a unit in a ledger, so that names of keys are not kept; "" of "".

    Independent of the hash that assigns: 16 hexadecimal digits.
    """
    if not unit:
        return ""
    text = f"{experiment_id}:{unit}".encode()
    return blake2b(text, digest_size=8, person=b"ledger").hexdigest()


def _bounds(variants: tuple[Variant, ...]) -> list[int]:
    """Return where each variant but the last ends, so that the last takes what rounding left."""
    sums = list(accumulate(variant.traffic_percentage for variant in variants))
    return [round(one / sums[-1] * _PARTS) for one in sums[:-1]]


def _pattern(endpoints: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(_expression(endpoint) for endpoint in endpoints))


def _expression(endpoint: str) -> str:
    if endpoint.endswith("/*"):
        return _expression(endpoint[:-2]) + "/(?s:.+)"
    segments = endpoint.split("/")
    return "/".join("[^/]+" if one.startswith("{") else re.escape(one) for one in segments)
