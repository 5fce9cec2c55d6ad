"""Joining the service's Ray from another process.

Ray reads its environment when it is imported, so nothing here imports it before that is set.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import psutil

from infra.errors import ActorError, ConfigError, FinstageError, KeyRequired
from infra.files import read_whole
from infra.net import listens
from infra.settings import LOOPBACK_HOSTS, load_settings

_VERSIONS = re.compile(r"(?:Ray|Python): (\S+)")


@dataclass(frozen=True, slots=True)
class RayAddress:
    """Where Ray is, and the token that it asks for, or the file that has it."""

    address: str
    token: str | None = field(default=None, repr=False)
    token_path: str | None = None

    @property
    def is_local(self) -> bool:
        """Return whether this is a loopback address."""
        return self.address.rpartition(":")[0].strip("[]") in LOOPBACK_HOSTS


def join(address: str | None, token: str | None, data_dir: str | Path | None) -> bool:
    """Join Ray unless this process is in one already; return whether it was joined here.

    Raises ConfigError if none is found or the versions differ, KeyRequired for a wrong token,
    ActorError if Ray does not answer. Blocks for a second or so.
    """
    if "ray" in sys.modules:
        import ray

        if ray.is_initialized():
            return False
    where = ray_address(address, token, data_dir)
    if not listens(where.address):  # Ray would try for minutes
        raise ActorError(f"no Ray answers at {where.address}; it should be host:port")
    _prepare_environment(where)
    _join(where.address)
    return True


def ray_address(address: str | None, token: str | None, data_dir: str | Path | None) -> RayAddress:
    """Return what is given, completed by what the service in `data_dir` left there.

    Raises ConfigError if something is missing and no service runs there.
    """
    if address and token:
        return RayAddress(address, token)
    folder = Path(data_dir).expanduser() if data_dir else load_settings().data_dir
    state = _running_state(folder / "run" / "state.json")
    if state is None or (address and address != state["address"]):
        raise ConfigError(
            f"no Finstage runs on {folder}: start it with `finstage up`, "
            "or give address= and token="
        )
    return RayAddress(state["address"], token, None if token else state["token_path"])


def _running_state(path: Path) -> dict[str, Any] | None:
    """Return what a running service says of itself, None if there is none, or it is gone.

    Raises ConfigError for a damaged file.
    """
    state = read_whole(path, _state_of, "stop the service, remove it, and start again")
    if state is None:
        return None
    try:
        same = abs(psutil.Process(state["pid"]).create_time() - state["created_s"]) < 1
    except psutil.Error:
        return None
    return state if same and state["address"] else None


def _state_of(content: bytes) -> dict[str, Any]:
    state = orjson.loads(content)
    return {name: state[name] for name in ("pid", "created_s", "address", "token_path")}


def _prepare_environment(where: RayAddress) -> None:
    """Set what Ray reads; where it was imported before, make it read again."""
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        os.environ.pop(name, None)
    if where.token is not None:
        os.environ["RAY_AUTH_TOKEN"] = where.token
    elif where.token_path:
        os.environ["RAY_AUTH_TOKEN_PATH"] = where.token_path
    has_token = where.token is not None or where.token_path
    os.environ["RAY_AUTH_MODE"] = "token" if has_token else "disabled"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL", "minor")
    if where.is_local:  # else Ray turns 127.0.0.1 into the machine's other address
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    if "ray" in sys.modules:
        _refresh_ray(where.is_local)


def _refresh_ray(is_local: bool) -> None:
    """Make an imported Ray, which is not connected, see the environment of now."""
    raylet: Any = importlib.import_module("ray._raylet")
    constants: Any = importlib.import_module("ray._private.ray_constants")
    if is_local:
        constants.ENABLE_RAY_CLUSTER = False
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


def _join(address: str) -> None:
    import ray
    from ray.exceptions import RayError

    from actors.runtime import NAMESPACE

    # Ray warns that it takes no signals in this thread; a driver's are its own anyway.
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        ray.init(
            address=address,
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level="ERROR",
            configure_logging=False,
        )
    except (RayError, OSError, RuntimeError) as error:
        ray.shutdown()  # of what was begun
        raise _joining_error(error, address) from None


def _joining_error(error: Exception, address: str) -> FinstageError:
    """Return an error of `ray.init` as ours."""
    text = str(error)
    if type(error).__name__ == "AuthenticationError":
        return KeyRequired(f"Ray at {address} does not take this token")
    if "Version mismatch" in text and len(found := _VERSIONS.findall(text)) == 4:
        return ConfigError(
            f"Finstage runs Ray {found[0]} on Python {found[1]}, this is Ray {found[2]} on "
            f"Python {found[3]}: use the same, or finstage.Client, which works from any version"
        )
    reason = text.strip().partition("\n")[0][:200]
    return ActorError(f"cannot join Ray at {address}: {reason or type(error).__name__}")


def leave() -> None:
    """Part from Ray."""
    import ray

    ray.shutdown()
