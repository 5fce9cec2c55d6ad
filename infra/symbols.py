"""Symbols as callers write them: one spelling, and the nearest known one."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rapidfuzz import process
from rapidfuzz.distance import OSA

from infra.errors import SymbolUnknown

MAX_CHARS_SHOWN = 40
# Half of the letters right: NQ still finds NQ=F, and ZZZZ finds nothing.
LEAST_SIMILARITY = 0.5

# Lower case stands in the pattern because upper() comes after it: it would make SS of a sharp s.
_SYMBOL = re.compile(r"[A-Za-z0-9^=.-]{1,20}")
_FORM = "a symbol is 1 to 20 letters, digits and signs of ^ = . -"


def normalise(text: str) -> str:
    """Return the symbol that `text` means: no space around it, in capitals.

    Raises SymbolUnknown for what cannot be a symbol (20 characters at most, letters, digits and
    `^=.-`); the error shows its first 40 printable characters.

    >>> normalise(" ^gspc ")
    '^GSPC'
    """
    symbol = text.strip()
    if _SYMBOL.fullmatch(symbol) is None:
        printable = (char for char in symbol if char.isprintable())
        raise SymbolUnknown("".join(printable)[:MAX_CHARS_SHOWN], (), _FORM)
    return symbol.upper()


def nearest(symbol: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return up to `count` known symbols that look like `symbol`, the most alike first.

    Alike is 1 - (letters added, left out, changed or swapped) / (letters of the longer one), at
    least 0.5; equals are in alphabetical order. Cost grows with the number of known symbols.

    >>> nearest("APPL", ["AAPL", "IBM", "XLP"])
    ['AAPL']
    """
    found = process.extract(
        symbol,
        sorted(known),
        scorer=OSA.normalized_similarity,
        limit=count,
        score_cutoff=LEAST_SIMILARITY,
    )
    return [match for match, _, _ in found]
