"""Column types that mean the same in every database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, Double, String, Text, TypeDecorator
from sqlalchemy.dialects import mysql
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import TypeEngine

from infra.errors import StoreRefused


class UtcTime(TypeDecorator[datetime]):
    """An instant, to the microsecond: aware on this side, UTC without a zone in the database."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[datetime]:
        """Return the type that keeps microseconds."""
        if dialect.name == "mysql":
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return what the database keeps; raises ValueError for a time without a zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware time."""
        return None if value is None else value.replace(tzinfo=UTC)


class Json(TypeDecorator[bytes]):
    """JSON as it is written and read: UTF-8 bytes on this side, long text in the database."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[str]:
        """Return the type of long text."""
        is_mysql = dialect.name == "mysql"
        return dialect.type_descriptor(mysql.MEDIUMTEXT() if is_mysql else Text())

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> str | None:
        """Return the text."""
        return None if value is None else value.decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> bytes | None:
        """Return the bytes."""
        return None if value is None else value.encode()


class Code(TypeDecorator[str]):
    """A short name: ASCII in every database, as MySQL neither keeps nor compares another there."""

    impl = String
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[str]:
        """Return the type that compares byte by byte."""
        if dialect.name == "mysql":
            exact = mysql.VARCHAR(self.length, charset="ascii", collation="ascii_bin")
            return dialect.type_descriptor(exact)
        return dialect.type_descriptor(String(self.length))

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return the name; raises StoreRefused for one that no column of names can hold."""
        if value is not None and not value.isascii():
            raise StoreRefused(f"{ascii(value[:40])} is no name here: names are ASCII")
        return value

    def coerce_compared_value(self, op: OperatorType | None, value: Any) -> Code:
        """Return the type of a name that is looked for."""
        return _Sought(self.length)


class _Sought(Code):
    """A name in a condition: NULL, which equals nothing, for one that no column can hold."""

    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return the name, None for one that is nobody's."""
        return value if value is not None and value.isascii() else None


def code(length: int) -> Code:
    """Return the type of symbols and other short names."""
    return Code(length)


def long_text() -> Text:
    """Return the type of text of any length that is read by people."""
    return Text().with_variant(mysql.MEDIUMTEXT(), "mysql")


Number = Double
