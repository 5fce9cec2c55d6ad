"""Where something may be sent."""

from __future__ import annotations

from yarl import URL

from infra.errors import TargetInvalid
from infra.notify.addresses import is_literal, is_public

_LONGEST = 2_000


def checked_target(text: str, allow_private: bool) -> str:
    """Return a URL that a webhook can go to; raises TargetInvalid.

    A name is looked up only when something is sent: what it means then decides.
    """
    try:
        url = URL(text.strip())
    except ValueError:
        raise TargetInvalid("this target", "it is no URL") from None
    host = url.host or ""
    if url.scheme not in ("http", "https") or not host:
        raise TargetInvalid(shown(text), "use http:// or https:// and a host")
    if len(text) > _LONGEST:
        raise TargetInvalid(shown(text), f"it is longer than {_LONGEST} characters")
    is_own = host == "localhost" or host.endswith(".localhost")
    is_private = is_own or (is_literal(host) and not is_public(host))
    if is_private and not allow_private:
        raise TargetInvalid(shown(text), "its address is private (see FINSTAGE_NOTIFY_PRIVATE)")
    return str(url)


def shown(text: str) -> str:
    """Return a target for people: scheme and host, as path and query may be secrets."""
    try:
        url = URL(text.strip())
    except ValueError:
        return "a target"
    return f"{url.scheme}://{url.host}/…" if url.host else "a target"
