"""The market as a Ray driver: this process joins the service's Ray and asks the actors.

Ray reads its environment when it is imported, so nothing here imports it, or the actors'
clients, before that is set.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pandas as pd
import psutil

from infra.bars import Quote
from infra.clock import utc
from infra.errors import ActorError, ConfigError, FinstageError, KeyRequired
from infra.files import read_whole
from infra.net import listens
from infra.quotes import price_update
from infra.settings import LOOPBACK_HOSTS, load_settings
from pipelines.analysis import priced_analyses
from pipelines.market import AsyncMarket, Market, Quoted, failure, history_frame

if TYPE_CHECKING:
    from actors.feed.client import FeedClient
    from actors.indicators.client import IndicatorClient

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


class Driver(Market):
    """Finstage over Ray, as plain calls; `async with` gives the same methods awaited.

    Entering joins Ray and sets Ray's variables in this process's environment; leaving parts
    from it, unless this process was in Ray before.
    """

    def __init__(
        self,
        address: str | None = None,
        token: str | None = None,
        data_dir: str | Path | None = None,
    ) -> None:
        super().__init__(partial(open_market, address, token, data_dir))


def connect(
    address: str | None = None,
    token: str | None = None,
    data_dir: str | Path | None = None,
) -> Driver:
    """Return a driver of the Finstage on this machine, to be entered by `with` or `async with`.

    `address` (host:port of Ray) and `token` are found in `data_dir`, the service's
    (FINSTAGE_DATA_DIR), and given where that is on another machine. Entering raises ConfigError
    if nothing runs there, or Ray's or Python's version is not the service's; `finstage.Client`
    works from any.
    """
    return Driver(address, token, data_dir)


@asynccontextmanager
async def open_market(
    address: str | None, token: str | None, data_dir: str | Path | None
) -> AsyncIterator[AsyncMarket]:
    """Join Ray, give the market over its actors, and leave Ray if it was joined here."""
    joined_here = await asyncio.to_thread(join, address, token, data_dir)
    try:
        from actors.feed.client import FeedClient
        from actors.indicators.client import IndicatorClient
        from actors.joining import join_caches

        if joined_here:
            await asyncio.to_thread(join_caches, "driver")
        yield ActorMarket(FeedClient(), IndicatorClient())
    finally:
        if joined_here:
            _part_caches()
            await asyncio.to_thread(_leave)


class ActorMarket(AsyncMarket):
    """The actors as `AsyncMarket`: one call each way for all the symbols of a call."""

    def __init__(self, feed: FeedClient, indicators: IndicatorClient) -> None:
        self._feed = feed
        self._computed = indicators

    async def _history(
        self,
        symbol: str,
        period: str | None,
        start: date | None,
        end: date | None,
        interval: str,
        adjusted: bool,
    ) -> pd.DataFrame:
        bars, data_version, source, _ = await self._computed.history(
            symbol, period, start, end, interval, adjusted, False
        )
        prices = {"open": bars.open, "high": bars.high, "low": bars.low, "close": bars.close}
        return history_frame(
            bars.opened_at_ns,
            prices,
            bars.volume,
            symbol=symbol,
            source=source,
            data_version=data_version,
        )

    async def _indicators(
        self, symbol: str, period: str, indicators: str, interval: str, method: str
    ) -> dict[str, Any]:
        from actors.indicators.client import is_of_the_six, parse_names

        if not is_of_the_six(indicators):
            asked = indicators.strip().lower()
            table = await self._computed.table(symbol, asked, period, interval, 1)
            return table.latest()
        names = parse_names(indicators)
        return await self._computed.indicators(symbol, period, interval, names, method, False)

    async def _analyses(self, symbols: Sequence[str], period: str) -> dict[str, dict[str, Any]]:
        answers, prices = await asyncio.gather(
            self._computed.comprehensive(symbols, period, "1d", "standard", False),
            self._prices(symbols),
        )
        now = utc(time.time()).isoformat(timespec="milliseconds")
        results = priced_analyses(symbols, answers, prices, now)
        return {
            symbol: failure(symbol, result) if isinstance(result, FinstageError) else result
            for symbol, result in results.items()
        }

    async def _quotes(self, symbols: Sequence[str]) -> dict[str, Quoted]:
        return {
            symbol: Quoted(error=price.code)
            if isinstance(price, FinstageError)
            else Quoted(price["current_price"], price["timestamp"], price["source"])
            for symbol, price in (await self._prices(symbols)).items()
        }

    async def _prices(self, symbols: Sequence[str]) -> dict[str, dict[str, Any] | FinstageError]:
        quotes = await self._feed.quotes(symbols)
        return {
            s: price_update(answer, None) if isinstance(answer, Quote) else answer
            for s, answer in quotes.items()
        }


# -- joining Ray -------------------------------------------------------------------------------


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


def _part_caches() -> None:
    from actors.joining import part_caches

    part_caches()


def _leave() -> None:
    import ray

    ray.shutdown()
