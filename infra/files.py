"""Files that are either the old ones or the new ones, whatever happens in between."""

from __future__ import annotations

import errno
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from infra.errors import ConfigError, StoreFull, StoreUnavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_OURS = (ValueError, KeyError, TypeError, AttributeError)  # what `parse` says of a damaged one


@contextmanager
def replacing(path: Path, mode: int = 0o600) -> Iterator[Path]:
    """Give an empty file to write, which then takes the place of `path`, on the disk.

    The old file stays where the block raises, and after a crash. Raises StoreFull where there is
    no room, StoreUnavailable where the folder cannot be written.
    """
    temporary: Path | None = None
    try:
        with of_store(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            os.close(handle)
            temporary = Path(name)
            yield temporary
            temporary.chmod(mode)
            take_place(temporary, path)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def take_place(new: Path, path: Path) -> None:
    """Put a whole file in the place of `path`, on the disk; raises OSError where it is not."""
    _sync(new)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        new.replace(path)
        _sync_name(folder, path)
    finally:
        os.close(folder)


def _sync_name(folder: int, path: Path) -> None:
    """Put the new name on the disk too, else a power cut brings back the old file."""
    try:
        os.fsync(folder)
    except OSError as error:  # the new file is in its place all the same
        logger.warning("file.name_unsynced", extra={"file": path.name, "why": error.strerror})


def write_atomically(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace a file's content, as `replacing` does."""
    with replacing(path, mode) as new:
        new.write_bytes(content)


@contextmanager
def of_store(path: Path) -> Iterator[None]:
    """Tell what the system says of a file or folder as StoreFull or StoreUnavailable."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StoreFull(f"the disk has no room for {path.name}: {error.strerror}") from error
        reason = error.strerror or error
        raise StoreUnavailable(f"{path.name} cannot be written: {reason}") from error


def read_whole(path: Path, parse: Callable[[bytes], T], mend: str) -> T | None:
    """Return what a file of the data directory holds, None if there is none.

    Raises ConfigError, which names the file and says `mend`, where it cannot be read, or `parse`
    raises on what it holds.
    """
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): {mend}") from None
    except _NOT_OURS as error:
        raise ConfigError(f"{path} is damaged ({_reason(error)}): {mend}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    return str(error).partition("\n")[0] or type(error).__name__


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
