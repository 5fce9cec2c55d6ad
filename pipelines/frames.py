"""Frames of bars."""

from __future__ import annotations

import numpy as np
import pandas as pd

from infra.bars import Bars, Ints

_COLUMNS = ("open", "high", "low", "close", "volume")


def bars_frame(bars: Bars) -> pd.DataFrame:
    """Return bars by `opened_at` (datetime64[ns, UTC]): prices float64, `volume` int64."""
    columns = {name: np.array(getattr(bars, name)) for name in _COLUMNS}
    return pd.DataFrame(columns, index=opening_times(bars.opened_at_ns))


def opening_times(opened_at_ns: Ints) -> pd.DatetimeIndex:
    """Return Unix nanoseconds as an index."""
    index = pd.DatetimeIndex(opened_at_ns.astype("datetime64[ns]"), name="opened_at")
    return index.tz_localize("UTC")
