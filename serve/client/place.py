"""Where a client asks that was not told: the service of this machine, as the command line does."""

from __future__ import annotations

from dataclasses import dataclass, field

from infra.errors import ActorError, RequestError
from infra.settings import Settings, load_settings
from serve.state import read_state

_EVERY_ADDRESS = ("0.0.0.0", "::", "")


@dataclass(frozen=True, slots=True)
class Place:
    """A service's URL, and the key that it asks for."""

    url: str
    key: str | None = field(default=None, repr=False)

    def unreachable(self) -> ActorError:
        """Return what is said where nobody answers."""
        return ActorError(
            f"no Finstage at {self.url}: start it with `make run` or `finstage up`, or say where "
            "it is by url=, FINSTAGE_URL or FINSTAGE_DATA_DIR"
        )


def place_of(url: str | None, key: str | None) -> Place:
    """Return where to ask: at `url`, else where the settings say, else where the service runs.

    That is FINSTAGE_URL, then what runs on FINSTAGE_DATA_DIR, then FINSTAGE_PORT; the first of
    FINSTAGE_API_KEYS goes with it. Raises RequestError for what is no URL, ConfigError for
    settings that are none.
    """
    if url is not None:
        if not url.startswith(("http://", "https://")):
            raise RequestError(f"url {url!r} must start with http:// or https://")
        return Place(url.rstrip("/"), key)
    settings = load_settings()
    own_key = next(iter(settings.keys.values()), None)
    return Place(_found(settings).rstrip("/"), own_key if key is None else key)


def _found(settings: Settings) -> str:
    if settings.url:
        return settings.url
    state = read_state(settings)
    if state is not None and state.runs:
        return state.url
    host = "127.0.0.1" if settings.host in _EVERY_ADDRESS else settings.host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
