"""Which database: a file beside the service by default, MySQL by its URL."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from infra.errors import ConfigError

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "mysql": "mysql+asyncmy", "mariadb": "mysql+asyncmy"}
StoreUrl = URL
_EXAMPLES = "sqlite:///FILE or mysql://USER:PASSWORD@HOST:3306/DATABASE"


def store_url(text: str, data_dir: Path) -> URL:
    """Return the URL of the store; empty text means `store.db` in the data directory.

    Raises ConfigError for another kind of database, without showing a password.
    """
    if not text:
        return file_url(data_dir / "store.db")
    try:
        url = make_url(text)
    except ArgumentError:
        raise ConfigError(f"the database URL is not one; use {_EXAMPLES}") from None
    driver = _DRIVERS.get(url.get_backend_name())
    if driver is None or url.drivername not in (*_DRIVERS, driver):
        raise ConfigError(f"no store in a {url.drivername!r} database; use {_EXAMPLES}")
    if not url.database or url.database == ":memory:":
        raise ConfigError(f"the database URL names no database; use {_EXAMPLES}")
    return url.set(drivername=driver)


def file_url(path: Path) -> URL:
    """Return the URL of a store in a file."""
    return URL.create("sqlite+aiosqlite", database=str(path))


def shown(url: URL) -> str:
    """Return where the store is, for people: no password, a file by its path."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.set(drivername="mysql").render_as_string(hide_password=True)
