"""Messages of Yahoo's streamer: prices in a protobuf, in base64, in JSON."""

from __future__ import annotations

import base64
import functools
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from infra.errors import SourceMalformed

# The proto's MarketHoursType.
_PARTS = {0: "pre", 1: "regular", 2: "post"}
_MAX_AT_MS = 2**33 * 1000


@dataclass(frozen=True, slots=True)
class PricingTick:
    """One price of the stream; what the message left out is None.

    `at_ns`: Unix nanoseconds, UTC, exact to the millisecond. Prices have the fewest digits that
    are the same in 32 bits. `part`: pre, regular, post or extended.
    """

    symbol: str
    price: float
    at_ns: int
    day_volume: int | None
    day_high: float | None
    day_low: float | None
    open_price: float | None
    previous_close: float | None
    currency: str | None
    part: str
    exchange: str | None


def decode_message(message: str | bytes) -> PricingTick | None:
    """Return the price in a message, None for one of another type; raises SourceMalformed."""
    try:
        envelope = orjson.loads(message)
    except orjson.JSONDecodeError as error:
        raise SourceMalformed("not_json", f"no JSON: {error}") from None
    if not isinstance(envelope, dict):
        raise SourceMalformed("not_pricing", "a message without a type")
    if envelope.get("type") != "pricing":
        return None
    data = pricing_data_class()()
    try:
        data.ParseFromString(base64.b64decode(envelope["message"], validate=True))
    except Exception as error:  # the codecs have errors of several families
        raise SourceMalformed("not_pricing", f"no price in it: {type(error).__name__}") from None
    return _tick(data)


def _tick(data: Any) -> PricingTick:
    price = _shortest(data.price)
    if not data.id:
        raise SourceMalformed("tick_symbol", "a price without a symbol")
    if not (math.isfinite(price) and price > 0):
        raise SourceMalformed("tick_price", f"{data.id[:40]} at the price {price}")
    if not 0 < data.time < _MAX_AT_MS:
        raise SourceMalformed("tick_time", f"{data.id[:40]} at the time {data.time}")
    return PricingTick(
        symbol=data.id,
        price=price,
        at_ns=data.time * 10**6,
        day_volume=data.day_volume if data.day_volume > 0 else None,
        day_high=_known(data.day_high),
        day_low=_known(data.day_low),
        open_price=_known(data.open_price),
        previous_close=_known(data.previous_close),
        currency=data.currency or None,
        part=_PARTS.get(data.market_hours, "extended"),
        exchange=data.exchange or None,
    )


def _known(value: float) -> float | None:
    price = _shortest(value)
    return price if math.isfinite(price) and price > 0 else None


def _shortest(value: float) -> float:
    return float(str(np.float32(value)))


@functools.cache
def pricing_data_class() -> Any:
    """Return yfinance's message class, without what importing yfinance brings along.

    The package takes half a second and pandas with it; this file of it takes 20 ms.
    """
    package = importlib.util.find_spec("yfinance")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).with_name("pricing_pb2.py")
    spec = importlib.util.spec_from_file_location("yfinance_pricing_pb2", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PricingData
