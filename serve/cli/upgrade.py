"""The store at a start: a new one is made, an older one migrated, a newer one refused."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from rich.console import Console

from infra.db.backups import Backups
from infra.db.engine import PoolShare, make_engine
from infra.db.faults import is_of_database, store_error
from infra.db.url import StoreUrl, shown, store_url
from infra.db.version import current_version, head_version
from infra.errors import ConfigError, StoreUnavailable
from infra.settings import Settings

logger = logging.getLogger(__name__)

_UNASKED = "unasked"
_DAMAGED = ("SQLITE_NOTADB", "SQLITE_CORRUPT")


def upgrade_store(settings: Settings, console: Console) -> None:
    """Make the tables of an empty store; bring an older one to this version, after a backup.

    The latter is said in one line. Raises ConfigError for the store of a later Finstage, and
    where no backup could be made or the migration failed; nothing is written then, but for what
    MySQL cannot undo. A store that does not answer, or takes no tables, is left to the service.
    """
    url = _url(settings)
    found = _found(url)
    if found in (_UNASKED, head_version()):
        return
    backups = Backups(settings.data_dir / "backups", time.time())
    if found is None:
        try:
            asyncio.run(_migrated(url, settings, backups))
        except ConfigError as error:
            logger.warning("store.unmade", extra={"reason": error.message})
        return
    after = asyncio.run(_migrated(url, settings, backups))
    console.print(
        f"the store {shown(url)} had version {found} and has {after} now; as it was: "
        f"{backups.path(found)}",
        soft_wrap=True,
        markup=False,
    )
    logger.info("store.migrated", extra={"before": found, "after": after})


def need_current_store(settings: Settings) -> None:
    """Raise ConfigError if the store has another version than this Finstage, which runs on."""
    found = _found(_url(settings))
    if found not in (None, _UNASKED, head_version()):
        raise ConfigError(
            f"the store has version {found}, this Finstage needs {head_version()}: only a whole "
            "restart migrates it, `finstage down`, then `finstage up`"
        )


async def store_version(url: StoreUrl) -> str | None:
    """Return a store's version, None for an empty one.

    Raises ConfigError for a file that is no database, or a damaged one, StoreUnavailable for a
    store that cannot be asked.
    """
    engine = make_engine(url, PoolShare(1, 0))
    try:
        return await current_version(engine)
    except Exception as error:
        if not is_of_database(error):
            raise
        said = getattr(error, "orig", None)
        if getattr(said, "sqlite_errorname", "") in _DAMAGED:
            raise ConfigError(f"{url.database} is damaged ({said})") from None
        raise StoreUnavailable(str(error).partition("\n")[0]) from None
    finally:
        await engine.dispose()


def _found(url: StoreUrl) -> str | None:
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).is_file():
        return None  # and to ask it would make it
    try:
        return asyncio.run(store_version(url))
    except ConfigError as error:
        raise ConfigError(
            f"{error.message}: put a backup in its place, or move it away to begin with an empty "
            "store"
        ) from None
    except StoreUnavailable as error:
        logger.warning("store.unasked", extra={"reason": error.message})
        return _UNASKED


def _url(settings: Settings) -> StoreUrl:
    return store_url(settings.database_url.get_secret_value(), settings.data_dir)


async def _migrated(url: StoreUrl, settings: Settings, backups: Backups) -> str | None:
    from infra.db.migrate import migrate  # which few starts need

    engine = make_engine(url, PoolShare(1, 0), settings.sqlite_synchronous)
    try:
        _, after = await migrate(engine, backups=backups)
        return after
    except Exception as error:
        told = store_error(error)
        if told is None and not is_of_database(error):
            raise
        reason = str(error).partition("\n")[0] if told is None else told.message
        raise ConfigError(f"{shown(url)}: {reason}") from error
    finally:
        await engine.dispose()
