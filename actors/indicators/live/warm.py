"""Compile all kernels, or load them: `python -m actors.indicators.live.warm`."""

from __future__ import annotations

import sys
import time

import numpy as np

from actors.indicators.live.kernel import Columns
from actors.indicators.live.registry import LIVE_INDICATORS


def warm() -> float:
    """Call every kernel once with the types that the engine uses; return the seconds it took.

    Without what is kept on the disk some 15 s, else half of one.
    """
    began_s = time.perf_counter()
    rows, index, final = np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.bool_)
    for indicator in LIVE_INDICATORS.values():
        params = indicator.params([])
        columns = Columns(1, indicator.window(params))
        state = np.zeros((1, indicator.state_size(params)))
        out = np.empty((1, len(indicator.outputs)))
        given = np.array(params, np.float64)
        indicator.kernel(rows, index, final, columns.arrays, state, given, out)
    return time.perf_counter() - began_s


if __name__ == "__main__":
    sys.stdout.write(f"compiled {len(LIVE_INDICATORS)} indicators in {warm():.1f} s\n")
