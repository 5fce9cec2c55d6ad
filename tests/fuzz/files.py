"""Files for `finstage import`: broken, mislabelled and swollen, read in a process of its own."""

from __future__ import annotations

import gzip
import io
import random
import resource
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from infra.bar_files import read_bars
from infra.errors import ImportUnreadable

MOST_MB = 700  # that reading one file may add
PATIENCE_S = 60.0
_ADDRESSES_BYTES = 8 * 2**30  # of the reader, so that a finding does not take the machine along
_ZEROS = 300 * 2**20


def made(draws: random.Random, folder: Path) -> Path:
    """Write a file and return it; the name has its format."""
    kind = draws.choice(("csv", "csv", "csv.gz", "parquet"))
    name = f"{draws.randrange(10**9)}.{kind}"
    raw = _parquet(draws) if kind == "parquet" else _csv(draws)
    if kind == "csv.gz":
        raw = _zeros() if draws.random() < 0.05 else gzip.compress(raw, 1)
    if draws.random() < 0.5:
        raw = _damaged(raw, draws)
    path = folder / name
    path.write_bytes(raw)
    return path


def _rows(draws: random.Random) -> list[list[str]]:
    days = pd.date_range("2011-01-03", periods=40, freq="B").strftime("%Y-%m-%d")
    return [[day, "10", "12", "9", "11", "1000"] for day in days]


_ODD = ("", "nan", "inf", "-1", "0", "1e400", "1e-400", "9" * 400, "١٢", "1,5", "1 000", "$10",
        "9999-12-31", "0001-01-01", "2262-04-12", "1677-09-20", "31/02/2011", "2011-01-03T25:00",
        "4611686018427387904", "\x00", "\ud7ff", '"', "'=1+1", "x" * 100_000)  # fmt: skip


def _csv(draws: random.Random) -> bytes:
    header = ["date", "open", "high", "low", "close", "volume"]
    rows = _rows(draws)
    for _ in range(draws.randrange(4)):
        rows[draws.randrange(len(rows))][draws.randrange(6)] = draws.choice(_ODD)
    what = draws.random()
    if what < 0.1:
        header[draws.randrange(6)] = draws.choice(("", "close", "x", "Date", "\ufeffdate"))
    elif what < 0.15:
        header += [f"c{n}" for n in range(draws.choice((10, 5_000, 100_000)))]
    elif what < 0.2:
        rows *= draws.choice((2, 500))
    elif what < 0.25:
        rows[3] = ["x" * draws.choice((200_000, 3_000_000))]
    joint = draws.choice((",", ",", ",", ";", "\t", "|"))
    end = draws.choice(("\n", "\n", "\r\n", "\r"))
    text = end.join(joint.join(row) for row in [header, *rows])
    encoding = draws.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"))
    return text.encode(encoding, "replace")


def _parquet(draws: random.Random) -> bytes:
    frame = pd.DataFrame(_rows(draws), columns=["date", "open", "high", "low", "close", "volume"])
    columns: dict[str, Any] = {name: list(frame[name]) for name in frame.columns}
    for name in ("open", "high", "low", "close"):
        columns[name] = [float(value) for value in columns[name]]
    columns["volume"] = [1_000] * len(frame)
    odd = draws.choice(sorted(columns))
    columns[odd] = draws.choice((
        pa.array([2**62] * 40), pa.array([9_000_000_000_000_000] * 40, pa.timestamp("s")),
        pa.array([253_402_214_400_000] * 40, pa.timestamp("ms")), pa.array([None] * 40),
        pa.array([[1, 2]] * 40), pa.array([{"a": 1}] * 40), pa.array(["x"] * 40),
        pa.array([b"\xff"] * 40), pa.array([float("nan")] * 40), pa.array([2**31] * 40),
        pa.array([2_932_896] * 40, pa.date32()), pa.array([True] * 40), columns[odd],
    ))  # fmt: skip
    if draws.random() < 0.05:
        columns["zeros"] = pa.array(["0" * 200_000] * 40).dictionary_encode()
    target = io.BytesIO()
    pq.write_table(pa.table(columns), target)
    return target.getvalue()


def _zeros() -> bytes:
    return gzip.compress(bytes(_ZEROS), 1)


def _damaged(raw: bytes, draws: random.Random) -> bytes:
    changed = bytearray(raw)
    for _ in range(draws.choice((1, 3, 30))):
        if changed:
            changed[draws.randrange(len(changed))] = draws.randrange(256)
    return bytes(changed[: draws.randrange(len(changed) + 1)] if draws.random() < 0.3 else changed)


class Reader:
    """A process that reads one file after the other, and is begun anew where it dies."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None

    def read(self, path: Path) -> str:
        """Return how reading ended: `bars N`, `refused WHY`, or what is wrong, after `!`."""
        child = self._child
        if child is None or child.poll() is not None:
            child = self._child = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.files"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(f"{path}\n")
        child.stdin.flush()
        told = child.stdout.readline().strip()
        return told or f"!the reader ended with {child.wait()}"

    def end(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None


def _serve() -> None:
    """Read the files named on stdin; of each one line."""
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES_BYTES, _ADDRESSES_BYTES))
    for line in sys.stdin:
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        told = _read(Path(line.strip()))
        added_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
        if added_mb > MOST_MB:
            told = f"!took {added_mb:.0f} MB; {told}"
        sys.stdout.write(told.replace("\n", " ")[:1_000] + "\n")
        sys.stdout.flush()


def _read(path: Path) -> str:
    try:
        read = read_bars(path, "1d", "America/New_York", int(time.time() * 1e9))
    except ImportUnreadable as error:
        return f"refused {error.message}"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"!{type(error).__name__}: {error} at {Path(place.filename).name}:{place.lineno}"
    return f"bars {len(read.bars)}"


if __name__ == "__main__":
    _serve()
