"""Files of the data directory: whole or the old ones, and a damaged one is named."""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from actors.feed.core import MonitoredSet
from actors.feed.pins import Pins
from actors.monitor.machine import MachineWatch
from infra.archive import write_archive
from infra.clock import FakeClock, utc
from infra.errors import ConfigError, StoreError, StoreFull, StoreUnavailable
from infra.files import replacing, write_atomically
from infra.saved_symbols import read_monitored, read_pins
from pipelines.driver.joining import ray_address
from pipelines.scheduler.actor import SchedulerActor
from pipelines.scheduler.client import StoreState
from pipelines.scheduler.core import read_schedule
from serve.cli.head import make_token, token_path
from serve.state import State, read_state
from tests.settings import made_settings


@contextmanager
def longest_file(size_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_is_replaced_whole_and_private(tmp_path: Path) -> None:
    file = tmp_path / "new" / "set.json"

    write_atomically(file, b"one")
    write_atomically(file, b"two")

    assert file.read_bytes() == b"two"
    assert os.stat(file).st_mode & 0o777 == 0o600
    assert os.listdir(file.parent) == ["set.json"]


def test_what_raises_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "set.json"
    write_atomically(file, b"old")

    with pytest.raises(UnicodeEncodeError), replacing(file) as new:
        new.write_text("half\ud800", "utf-8")

    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["set.json"]


def test_a_disk_without_room_is_store_full_and_the_old_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "set.json"
    write_atomically(file, b"old")

    with longest_file(100), pytest.raises(StoreFull, match=r"no room for set\.json") as refused:
        write_atomically(file, b"n" * 10_000)

    assert refused.value.status_code == 503
    assert str(tmp_path) not in refused.value.message
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["set.json"]


def test_a_file_that_is_in_its_place_is_told_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file, sync = tmp_path / "set.json", os.fsync

    def sync_files(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        sync(handle)

    monkeypatch.setattr(os, "fsync", sync_files)
    write_atomically(file, b"new")

    assert file.read_bytes() == b"new"
    assert [record.message for record in caplog.records] == ["file.name_unsynced"]


def test_a_folder_that_cannot_be_opened_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, opened = tmp_path / "set.json", os.open
    write_atomically(file, b"old")

    def open_files(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        if Path(path).is_dir():
            raise OSError(errno.EMFILE, "Too many open files")
        return opened(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", open_files)
    with pytest.raises(StoreUnavailable, match="Too many open files"):
        write_atomically(file, b"new")

    assert file.read_bytes() == b"old"


def test_a_folder_that_is_none_is_store_unavailable(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file")

    with pytest.raises(StoreUnavailable, match=r"set\.json cannot be written"):
        write_atomically(tmp_path / "folder" / "set.json", b"x")


async def test_a_data_directory_that_is_gone_is_store_unavailable_to_who_looks(
    tmp_path: Path,
) -> None:
    settings = made_settings(data_dir=tmp_path / "gone")
    with pytest.raises(StoreUnavailable):
        MachineWatch(settings.data_dir).look()

    scheduler, clock = object.__new__(SchedulerActor), FakeClock()
    scheduler.settings, scheduler._clock = settings, clock  # type: ignore[assignment]
    scheduler._state, scheduler._probed_s = StoreState("", "", 0.0), clock.monotonic_s()
    with pytest.raises(StoreUnavailable):
        await scheduler._see_room()


def test_a_full_disk_changes_no_monitored_set_and_no_pins(tmp_path: Path) -> None:
    monitored = MonitoredSet(tmp_path / "monitored.json", ("AAPL",), 3)
    pins = Pins(tmp_path / "pins.json", 3)
    changes: list[Callable[[], object]] = [
        lambda: monitored.add(["MSFT"]),
        lambda: monitored.remove(["AAPL"]),
        lambda: pins.add(["MSFT"], True),
    ]

    with longest_file(1):
        for change in changes:
            with pytest.raises(StoreFull):
                change()

    assert monitored.symbols == ("AAPL",)
    assert pins.symbols == ()
    assert read_monitored(tmp_path / "monitored.json") is None


def test_a_full_disk_leaves_no_archive(tmp_path: Path) -> None:
    with longest_file(10), pytest.raises(StoreError):
        write_archive(tmp_path, "bars", [{"a": 1}], utc(0.0))

    assert list((tmp_path / "bars").iterdir()) == []


READERS: dict[str, Callable[[Path], object]] = {
    "monitored.json": lambda folder: read_monitored(folder / "monitored.json"),
    "pins.json": lambda folder: read_pins(folder / "pins.json"),
    "scheduler.json": lambda folder: read_schedule(folder / "scheduler.json"),
    "run/state.json": lambda folder: read_state(made_settings(data_dir=folder)),
    "run/state.json of a driver": lambda folder: ray_address(None, None, folder),
    "run/ray_token": lambda folder: make_token(made_settings(data_dir=folder)),
}
DAMAGED = [b"", b"{", b"[]", b"null", b'{"symbols": [1]}', b'{"symbols": "AAPL"}', b"\xff\xfe\x00"]


@pytest.mark.parametrize("content", DAMAGED)
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_named_with_what_to_do(
    name: str, content: bytes, tmp_path: Path
) -> None:
    if name == "pins.json" and content == b"{":
        content = b'{"AAPL": 1}'
    file = tmp_path / name.partition(" ")[0]
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)

    with pytest.raises(ConfigError) as refused:
        READERS[name](tmp_path)

    assert str(file) in refused.value.message
    assert "remove it" in refused.value.message
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("name", READERS)
def test_a_folder_in_the_place_of_a_file_is_named(name: str, tmp_path: Path) -> None:
    file = tmp_path / name.partition(" ")[0]
    file.mkdir(parents=True)

    with pytest.raises(ConfigError) as refused:
        READERS[name](tmp_path)

    assert str(file) in refused.value.message


def test_what_was_written_is_read(tmp_path: Path) -> None:
    settings = made_settings(data_dir=tmp_path)
    MonitoredSet(tmp_path / "monitored.json", (), 3).add(["AAPL"])
    Pins(tmp_path / "pins.json", 3).add(["AAPL"], True)
    state = State(1, 2.0, "http://x", "", "", {"http": 1}, "", 3.0, processes={4: 5.0})
    state.write(settings)
    make_token(settings)
    token = token_path(settings).read_bytes()
    make_token(settings)

    assert read_monitored(tmp_path / "monitored.json") == ("AAPL",)
    assert read_pins(tmp_path / "pins.json") == {"AAPL": True}
    assert read_state(settings) == state
    assert token_path(settings).read_bytes() == token
