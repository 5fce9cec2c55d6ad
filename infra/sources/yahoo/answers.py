"""The envelope around every answer of Yahoo: a result, or an error and its reason."""

from __future__ import annotations

import math
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from infra.errors import SourceMalformed, SymbolUnknown

NAME = "yahoo"

# Prices in the hundredth part of a currency, written as Yahoo does.
_MINOR = {"GBp": "GBP", "GBX": "GBP", "ZAc": "ZAR", "ILA": "ILS"}


def results(body: bytes, root: str, symbol: str) -> list[Any]:
    """Return the list of results under `root`, which may be empty.

    Raises SymbolUnknown where Yahoo says Not Found, SourceMalformed for all else that is none.
    """
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as reason:
        raise SourceMalformed("not_json", f"no JSON: {reason}") from None
    # Errors of the gateway come under a name of their own.
    envelope = (answer.get(root) or answer.get("finance")) if isinstance(answer, dict) else None
    if not isinstance(envelope, dict):
        raise SourceMalformed("no_result", f"no {root} in the answer")
    error = envelope.get("error")
    if isinstance(error, dict) and error.get("code") == "Not Found":
        raise SymbolUnknown(symbol)
    if error:
        raise SourceMalformed("refused", f"Yahoo says {str(error)[:200]}")
    found = envelope.get("result")
    if not isinstance(found, list):
        raise SourceMalformed("no_result", f"no result in {root}")
    return found


def number(value: object) -> float | None:
    """Return a finite number, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def text(value: object) -> str | None:
    """Return text that is not empty, None for anything else."""
    return value if isinstance(value, str) and value else None


def exchange_zone(name: object) -> ZoneInfo:
    """Return the exchange's time zone; raises SourceMalformed."""
    try:
        return ZoneInfo(str(name))
    except (KeyError, ValueError, OSError):
        raise SourceMalformed("time_zone", f"no time zone is called {str(name)[:40]!r}") from None


def major_currency(currency: str | None) -> tuple[str | None, int]:
    """Return the currency that people are paid in, and how many of `currency` it is worth.

    >>> major_currency("GBp")
    ('GBP', 100)
    """
    major = _MINOR.get(currency or "")
    return (major, 100) if major else (currency, 1)
