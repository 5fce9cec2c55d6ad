"""Where something may be sent."""

from __future__ import annotations

from collections.abc import Sequence

from yarl import URL

from infra.errors import TargetInvalid
from infra.notify.addresses import HostInvalid, checked_host

_LONGEST = 2_000


def checked_target(
    text: str, allow_private: bool, location: Sequence[str] = ("body", "targets")
) -> str:
    """Return a URL that a webhook can go to; raises TargetInvalid.

    A name is looked up only when something is sent: what it means then decides. `location` is
    where the URL came from, FastAPI's way.
    """
    try:
        url = URL(text.strip())
        host = url.raw_host or ""
    except ValueError:
        raise TargetInvalid("this target", "it is no URL", location) from None
    if url.scheme not in ("http", "https") or not host:
        raise TargetInvalid(shown(text), "use http:// or https:// and a host", location)
    if len(text) > _LONGEST:
        raise TargetInvalid(shown(text), f"it is longer than {_LONGEST} characters", location)
    try:
        checked_host(host, allow_private)
    except HostInvalid as error:
        raise TargetInvalid(shown(text), str(error), location) from None
    return str(url)


def spelled(text: str) -> str:
    """Return a URL in the one spelling that it is kept in; what is none stays as it is."""
    try:
        return str(URL(text.strip()))
    except ValueError:
        return text


def shown(text: str) -> str:
    """Return a target for people: scheme and host, as path and query may be secrets."""
    try:
        url = URL(text.strip())
    except ValueError:
        return "a target"
    return f"{url.scheme}://{url.host}/…" if url.host else "a target"
