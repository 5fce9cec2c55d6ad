"""The file of a recording: what was held at its start, and then what came, line by line.

One JSON object a line, gzipped. The first is the header; then, for each symbol, what it is and
its histories; then the events in the order and with the time at which they came. A recorder that
was killed leaves a file whose lines up to its last flush can be read.
"""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import orjson

from infra.bars import Bars, History
from infra.messages import ACTIONS, EXTENDED, PRICES, SOURCE_DATA, Message
from infra.quotes import quote_of
from infra.sources.base import (
    Action,
    ActionHappened,
    Event,
    SymbolInfo,
    Tick,
    VersionChanged,
)

logger = logging.getLogger(__name__)

FORMAT = 1
_MOST_LINE_BYTES = 32 * 2**20  # a history of all minutes that a source has is a tenth of it
RECORDED_TOPICS = (PRICES, EXTENDED, SOURCE_DATA, ACTIONS)


@dataclass(frozen=True, slots=True)
class Header:
    """What a recording is of. `started_at_ns`: Unix nanoseconds, UTC."""

    source: str
    synthetic: bool
    started_at_ns: int
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Described:
    """What a symbol is, and its splits and dividends, as known when recording started."""

    info: SymbolInfo
    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """A history as of `at_s` seconds after the start."""

    at_s: float
    history: History


@dataclass(frozen=True, slots=True)
class Happened:
    """Events that came together, `at_s` seconds after the start."""

    at_s: float
    events: tuple[Event, ...]


Line = Described | Held | Happened


class RecordingWriter:
    """Writes a recording; what was flushed survives the process. Raises OSError."""

    def __init__(self, path: Path, header: Header) -> None:
        self._file = gzip.open(path, "wb", compresslevel=3)
        self._write({"format": FORMAT, **asdict(header)})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def describe(self, info: SymbolInfo, actions: Sequence[Action]) -> None:
        """Keep what a symbol is."""
        self._write({"info": asdict(info), "actions": [asdict(action) for action in actions]})

    def hold(self, at_s: float, history: History) -> None:
        """Keep a history as of now."""
        self._write({"at_s": at_s, "history": _history_object(history)})

    def keep(self, at_s: float, messages: Sequence[Message]) -> int:
        """Keep those messages that a source makes; return how many."""
        kept = [m.payload for m in messages if m.topic.startswith(RECORDED_TOPICS)]
        if kept:
            self._write({"at_s": at_s, "told": [orjson.Fragment(payload) for payload in kept]})
        return len(kept)

    def flush(self) -> None:
        """Hand all to the operating system."""
        self._file.flush(zlib.Z_SYNC_FLUSH)
        self._file.fileobj.flush()  # type: ignore[union-attr]

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")


def read_header(path: Path) -> Header:
    """Return what a recording is of; raises ValueError that says what is wrong with the file."""
    first = next(_lines(path), None)
    no_recording = f"{path} is no recording of `finstage record`, or of a later version"
    if not isinstance(first, dict) or first.pop("format", None) != FORMAT:
        raise ValueError(no_recording)
    try:
        return Header(**{**first, "symbols": tuple(first["symbols"])})
    except (KeyError, TypeError):
        raise ValueError(no_recording) from None


def read_recording(path: Path) -> Iterator[Line]:
    """Yield what follows the header, in order; a file that was cut ends where it was cut."""
    lines = _lines(path)
    next(lines, None)
    for line in lines:
        if "told" in line:
            yield Happened(line["at_s"], tuple(_event(told) for told in line["told"]))
        elif "history" in line:
            yield Held(line["at_s"], _history(line["history"]))
        else:
            actions = (_action(action) for action in line["actions"])
            yield Described(SymbolInfo(**line["info"]), tuple(actions))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with gzip.open(path, "rb") as file:
            while line := file.readline(_MOST_LINE_BYTES + 1):
                if len(line) > _MOST_LINE_BYTES:
                    told = f"a line of {path} is longer than {_MOST_LINE_BYTES // 2**20} MiB"
                    raise ValueError(f"{told}: it is no recording of `finstage record`")
                yield orjson.loads(line)
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    except gzip.BadGzipFile:
        raise ValueError(f"{path} is no recording of `finstage record`") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except (EOFError, zlib.error, orjson.JSONDecodeError):
        logger.warning("recording.cut", extra={"path": str(path)})


def _event(told: dict[str, Any]) -> Event:
    if told["type"] == "price_update":
        return Tick(quote_of(told), is_streamed=True)
    if told["type"] == "data_version":
        return VersionChanged(told["symbol"], told["data_version"], False)
    return ActionHappened(_action(told))


def _action(told: dict[str, Any]) -> Action:
    ex_date = date.fromisoformat(told["ex_date"])
    return Action(told["symbol"], ex_date, told["kind"], told["value"], told["price_step"])


def _history_object(history: History) -> dict[str, Any]:
    return {
        "symbol": history.symbol,
        "interval": history.interval,
        "data_version": history.data_version,
        "changed_at_s": history.changed_at_s,
        "bars": _columns(history.bars),
        "open_bar": _columns(history.open_bar),
        "price_factor": np.ascontiguousarray(history.price_factor),
        "volume_factor": np.ascontiguousarray(history.volume_factor),
    }


def _columns(bars: Bars) -> dict[str, Any]:
    return {name: np.ascontiguousarray(getattr(bars, name)) for name in Bars.__slots__}


def _history(told: dict[str, Any]) -> History:
    return History(
        symbol=told["symbol"],
        bars=_bars(told["bars"]),
        open_bar=_bars(told["open_bar"]),
        price_factor=_floats(told["price_factor"]),
        volume_factor=_floats(told["volume_factor"]),
        data_version=told["data_version"],
        changed_at_s=told["changed_at_s"],
        source="",
        interval=told["interval"],
    )


def _bars(columns: dict[str, list[Any]]) -> Bars:
    return Bars(
        np.array(columns["opened_at_ns"], np.int64),
        np.array(columns["open"], np.float64),
        np.array(columns["high"], np.float64),
        np.array(columns["low"], np.float64),
        np.array(columns["close"], np.float64),
        np.array(columns["volume"], np.int64),
    )


def _floats(values: list[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    column = np.array(values, np.float64)
    column.flags.writeable = False
    return column
