"""What nobody reads: parameters whose names are near to one that is read, and bodies."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from rapidfuzz import process
from rapidfuzz.distance import OSA

from infra.errors import BodyInvalid, ParameterUnknown

_LEAST_SIMILARITY = 0.65  # of letters: `perod` is period, and `unknown` is nothing
_SHORTEST_PREFIX = 3
_NOTHING = (b"", b"{}", b"null")
_OTHER_WORDS = {  # of other services, for ours
    "from": ("start", "hours"), "since": ("start", "hours"), "begin": ("start",),
    "to": ("end",), "until": ("end",), "till": ("end",),
    "range": ("period",), "window": ("period",), "lookback": ("period",),
    "timeframe": ("interval",), "resolution": ("interval",), "granularity": ("interval",),
    "ticker": ("symbol", "symbols"), "tickers": ("symbols", "symbol"),
    "count": ("limit", "last"), "size": ("limit",), "per_page": ("limit",),
}  # fmt: skip


def check_names(
    given: Iterable[Any],
    known: Collection[str],
    place: str = "query",
    shortest: int = 0,
    similarity: float = _LEAST_SIMILARITY,
) -> None:
    """Raise ParameterUnknown for a name that is near to a known one; others are let be.

    `shortest`: so many letters both must have, where a short one may well mean something else.
    """
    meant = [one for one in known if len(one) >= shortest]
    for name in given:
        if not isinstance(name, str) or len(name) < shortest or name in known:
            continue
        if near := _nearest(name, meant, similarity):
            raise ParameterUnknown((place, name[:40]), near, sorted(known))


def check_unread(body: bytes, told: str) -> None:
    """Raise BodyInvalid for a body where nothing is read of one, unless it says nothing."""
    if body.strip() not in _NOTHING:
        raise BodyInvalid(("body",), told)


def _nearest(name: str, known: Collection[str], similarity: float = _LEAST_SIMILARITY) -> str:
    """Return the known name that is probably meant, "" where none is near.

    >>> _nearest("from", ["start", "end"]), _nearest("_", ["start", "end"])
    ('start', '')
    """
    text = name.lower()
    other = next((word for word in _OTHER_WORDS.get(text, ()) if word in known), "")
    if other:
        return other
    for one in known:
        short, long = sorted((text, one), key=len)
        if len(short) >= _SHORTEST_PREFIX and long.startswith(short):
            return one
    found = process.extractOne(
        text, known, scorer=OSA.normalized_similarity, score_cutoff=similarity
    )
    return "" if found is None else str(found[0])
