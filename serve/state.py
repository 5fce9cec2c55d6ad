"""What a running Finstage tells others on its machine: a lock and a small file."""

from __future__ import annotations

import fcntl
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

import orjson
import psutil

from infra.errors import ConfigError
from infra.files import read_whole, write_atomically
from infra.settings import Settings
from serve.processes import LOCK, Known, alive, is_running, known_of, marked, without_others

_STATE = "state.json"


@dataclass(slots=True)
class State:
    """`ready` turns true when the service answers, `stage` is what a start does until then.

    `address` is Ray's, for drivers.
    """

    pid: int
    created_s: float
    url: str
    address: str
    token_path: str
    ports: dict[str, int]
    session_dir: str
    started_at_s: float
    ready: bool = False
    stage: str = ""
    store: str = ""
    processes: Known = field(default_factory=dict)

    def write(self, settings: Settings) -> None:
        """Save for `down`, `status` and drivers."""
        body = orjson.dumps(asdict(self), option=orjson.OPT_NON_STR_KEYS)
        write_atomically(settings.run_dir / _STATE, body)

    @property
    def runs(self) -> bool:
        """Return whether the process that wrote this still runs."""
        return is_running(self.pid, self.created_s)


def read_state(settings: Settings) -> State | None:
    """Return what the last `finstage up` on this data directory left, or None.

    Raises ConfigError for a damaged file: what it told of is found without it.
    """
    mend = "remove it; `finstage down` then ends what still runs"
    return read_whole(settings.run_dir / _STATE, _state_of, mend)


def _state_of(content: bytes) -> State:
    raw = orjson.loads(content)
    raw["processes"] = {int(pid): float(at_s) for pid, at_s in raw["processes"].items()}
    state = State(**raw)
    if not isinstance(state.pid, int) or not isinstance(state.url, str):
        raise ValueError("pid or url is none")
    return state


def forget_state(settings: Settings) -> None:
    """Remove the file, when nothing runs any more."""
    (settings.run_dir / _STATE).unlink(missing_ok=True)


def living(settings: Settings, state: State | None) -> Known:
    """Return what `finstage up` started on this data directory and still runs.

    One `finstage up` that a task of another began is among them: it was begun anew with the mark.
    """
    recorded = state.processes if state is not None else {}
    own = without_others(recorded, settings.run_dir) | marked(settings.run_dir)
    return known_of(alive(own))


def lock_holder(settings: Settings) -> Known:
    """Return the `finstage up` that has this data directory, also before it has written a state.

    Raises ConfigError for a damaged file.
    """
    path = settings.run_dir / LOCK
    mend = f"remove it, once `fuser {path}` shows that no process has it"
    return known_of(alive(read_whole(path, _holder_of, mend) or {}))


def _holder_of(content: bytes) -> Known:
    if not content.strip():  # written on a full disk
        return {}
    pid, created_s = content.split()
    return {int(pid): float(created_s)}


def own_created_s() -> float:
    """Return when this process was created, Unix seconds."""
    return psutil.Process().create_time()


def take_lock(settings: Settings) -> IO[str]:
    """Take the data directory for this process, until it ends.

    Raises ConfigError if the directory cannot be written, or another Finstage has it.
    """
    path: Path = settings.run_dir / LOCK
    try:
        settings.run_dir.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+")
    except OSError as error:
        raise ConfigError(
            f"cannot write to {settings.data_dir} ({error.strerror}): "
            "set FINSTAGE_DATA_DIR to a directory of yours"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        state = read_state(settings)
        where = f" at {state.url} (pid {state.pid})" if state else ""
        raise ConfigError(
            f"Finstage runs already{where}: `finstage down` ends it; a second one needs its own "
            "FINSTAGE_PORT and FINSTAGE_DATA_DIR"
        ) from None
    os.set_inheritable(lock.fileno(), False)
    try:
        lock.truncate(0)
        lock.write(f"{os.getpid()} {own_created_s()}")
        lock.flush()
    except OSError as error:
        raise ConfigError(f"cannot write to {settings.data_dir} ({error.strerror})") from None
    return lock
