"""Which of a few known names is probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SHOWN = 3
_LEAST_ALIKE = 0.4
_MAX_CHARS = 200  # the cost grows with their square


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """Return up to three known names, the most alike first; a part of a long one will do.

    >>> near_names("report", ["generate_report", "bars.daily"])
    ['generate_report']
    """
    return difflib.get_close_matches(name[:_MAX_CHARS], list(known), _SHOWN, _LEAST_ALIKE)
