"""Which of the ways not to be reached an error of a network library is."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from infra.errors import SourceUnavailable

_TEXTS = {
    "dns": "Yahoo's name cannot be resolved (DNS)",
    "refused": "Yahoo's connection is refused",
    "timeout": "Yahoo does not answer in time",
    "unreachable": "Yahoo cannot be reached",
}
# Names, for they are of three libraries: aiohttp, requests over urllib3, curl_cffi.
_NAMES = (
    ("dns", ("DNS", "NameResolution", "gaierror")),
    ("refused", ("ConnectionRefused",)),
    ("timeout", ("Timeout",)),
)


def unavailable(error: BaseException) -> SourceUnavailable:
    """Return what a failure to reach Yahoo is to us."""
    cause = cause_of(error)
    detail = f": {type(error).__name__}" if cause == "unreachable" else ""
    return SourceUnavailable(_TEXTS[cause] + detail, cause)


def cause_of(error: BaseException) -> str:
    """Return dns, refused, timeout, or unreachable for all else."""
    errors = list(_within(error))
    for cause, names in _NAMES:
        for one in errors:
            kinds = [kind.__name__ for kind in type(one).__mro__]
            if any(name in kind for kind in kinds for name in names):
                return cause
            if cause == "refused" and "curl: (7)" in str(one):  # it has no class for it
                return cause
    return "unreachable"


def _within(error: object, depth: int = 4) -> Iterator[BaseException]:
    """Yield an error and those that it is made of."""
    if not isinstance(error, BaseException):
        return
    yield error
    if depth and not isinstance(error, socket.gaierror):
        parts = (getattr(error, name, None) for name in ("os_error", "reason", "__cause__"))
        for part in (*parts, *error.args):
            yield from _within(part, depth - 1)
