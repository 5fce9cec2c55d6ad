"""What a failing database means: may it be tried again, and what is the caller told."""

from __future__ import annotations

import re
import sqlite3

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from infra.errors import (
    StoreBusy,
    StoreError,
    StoreExhausted,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
)

# MySQL's and MariaDB's numbers.
_BUSY = {1205, 1213}  # lock wait timeout, deadlock
_FULL = {1021, 1114, 1030, 3}  # disk or table full, error of the storage engine, writing a file
_REFUSED = {1048, 1062, 1264, 1265, 1366, 1406, 1452}
_TOO_LARGE = {1153, 1301}  # for a packet
# What is wrong in our own words, as a driver's show tables and values to who has no use for them.
_REASONS: dict[int | str, str] = {
    1048: "has no value",
    1062: "is there already",
    1264: "is out of range",
    1265: "is cut short",
    1366: "has characters that are not kept there",
    1406: "is too long",
    1452: "belongs to something that is not there",
    "SQLITE_CONSTRAINT_UNIQUE": "is there already",
    "SQLITE_CONSTRAINT_PRIMARYKEY": "is there already",
    "SQLITE_CONSTRAINT_NOTNULL": "has no value",
    "SQLITE_TOOBIG": "is too long",
}
_COLUMN = re.compile(r"column '(?:[^']*`\.)?`?([a-z_]+)`?'|failed: (?:\w+\.)?([a-z_]+)")
_CONNECTIONS = {1040, 1203}


def store_error(error: BaseException) -> StoreError | None:
    """Return what the caller is told of an error, None if it is none of the database's."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, StatementError) and isinstance(error.orig, StoreError):
        return error.orig  # of a column's type
    if isinstance(error, UnicodeEncodeError):
        return StoreRefused("a text has half a character, a lone surrogate, which is no UTF-8")
    if isinstance(error, PoolTimeout):
        return StoreExhausted("every connection to the store is in use; try again")
    if isinstance(error, DBAPIError):
        return _of_driver(error)
    if isinstance(error, OSError):
        return StoreUnavailable(f"the store does not answer: {error}")
    return None


def _of_driver(error: DBAPIError) -> StoreError | None:
    origin = _origin(error)
    if isinstance(origin, sqlite3.Error):
        return _of_sqlite(origin)
    number = origin.args[0] if origin.args and isinstance(origin.args[0], int) else 0
    said = str(origin.args[-1]) if origin.args else str(origin)
    if number in _BUSY:
        return StoreBusy("the store is busy: others hold what is needed, try again")
    if number in _FULL:
        return StoreFull(f"the store's disk is full: {said}")
    if number in _TOO_LARGE:
        return StoreRefused("the store does not take this: it is larger than a packet may be")
    if number in _CONNECTIONS:
        return StoreExhausted(f"the database takes no more connections: {said}")
    if number in _REFUSED or isinstance(error, IntegrityError):
        return StoreRefused(_refusal(number, said))
    if error.connection_invalidated or number in range(2000, 2100) or number in (1053, 1927):
        return StoreUnavailable(f"the store does not answer: {said}")
    if number in (1044, 1045, 1049, 1698):  # access denied, no such database
        return StoreUnavailable(f"the store lets nobody in: {said}")
    if isinstance(origin, OSError):
        return StoreUnavailable(f"the store does not answer: {said}")
    return None


def _refusal(number: int | str, said: str) -> str:
    found = _COLUMN.search(said)
    column = f" for {found[1] or found[2]}" if found else ""
    return f"the store does not take this: a value{column} {_REASONS.get(number, 'does not fit')}"


def _of_sqlite(origin: sqlite3.Error) -> StoreError | None:
    name = getattr(origin, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreBusy(f"the store is busy: {origin}")
    if name.startswith("SQLITE_FULL") or name == "SQLITE_IOERR_WRITE":
        return StoreFull(f"the store's disk is full: {origin}")
    if name.startswith(("SQLITE_CONSTRAINT", "SQLITE_MISMATCH", "SQLITE_TOOBIG")):
        return StoreRefused(_refusal(name, str(origin)))
    if name.startswith(
        ("SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_NOTADB", "SQLITE_CORRUPT")
    ):
        return StoreUnavailable(f"the store cannot be used: {origin}")
    return None


def _origin(error: DBAPIError) -> BaseException:
    """Return the driver's own error; SQLAlchemy's adapters chain theirs to it."""
    found: BaseException = error.orig if error.orig is not None else error
    seen = found
    while seen is not None:
        if isinstance(seen, sqlite3.Error) and hasattr(seen, "sqlite_errorname"):
            return seen
        seen = seen.__cause__  # type: ignore[assignment]
    return found


def is_of_database(error: BaseException) -> bool:
    """Return whether an error came from the database or the way to it."""
    return isinstance(error, (SQLAlchemyError, OSError))
