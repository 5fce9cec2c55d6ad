"""Refusals of what a body says: where in it, and why."""

from __future__ import annotations

from collections.abc import Collection

from infra.errors import RangeInvalid

Place = tuple[str | int, ...]


def refusal(place: str | Place, reason: str) -> RangeInvalid:
    """Return the error that names a place of the body."""
    parts = (place,) if isinstance(place, str) else place
    return RangeInvalid(("body", *map(str, parts)), reason)


def require(holds: object, place: str | Place, reason: str) -> None:
    """Refuse a place of the body if something does not hold; raises RangeInvalid."""
    if not holds:
        raise refusal(place, reason)


def require_one_of(place: str, value: object, allowed: Collection[str]) -> None:
    """Refuse what is none of the allowed; raises RangeInvalid with all of them."""
    holds = isinstance(value, str) and value in allowed
    require(holds, place, f"{value!r} is none of {', '.join(allowed)}")
