"""What a new version of a symbol's bars says of splits and dividends since the one before."""

from __future__ import annotations

import numpy as np

from infra.bars import History
from infra.sources.base import Action

_SAME_SPLIT = 1e-9
_SAME_DIVIDEND = 1e-4  # relative: adjusted closes come rounded, and move a little by themselves


def actions_between(before: History, after: History) -> list[Action]:
    """Return the splits and dividends by which the factors of the same bars differ.

    They take effect with the newest session. Nothing if the two share no closed bar. A dividend's
    `value` is not known from bars.
    """
    if not len(before.bars) or not len(after.bars):
        return []
    stamp = before.bars.opened_at_ns[-1]
    row = int(np.searchsorted(after.bars.opened_at_ns, stamp))
    if row == len(after.bars) or after.bars.opened_at_ns[row] != stamp:
        return []
    split = float(after.volume_factor[row] / before.volume_factor[-1])
    price_step = float(before.price_factor[-1] / after.price_factor[row])
    newest = after.open_bar if len(after.open_bar) else after.bars
    ex_date = newest.session(len(newest) - 1)
    found = []
    if abs(split - 1) > _SAME_SPLIT:
        found.append(Action(after.symbol, ex_date, "split", split, split))
    rest = price_step / split
    if abs(rest - 1) > _SAME_DIVIDEND:
        found.append(Action(after.symbol, ex_date, "dividend", None, rest))
    return found
