"""All live indicators by name. A new one is a file in `catalogue` and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from actors.indicators.live.catalogue import (
    adx,
    aroon,
    atr,
    bollinger,
    cci,
    cutler_rsi,
    dema,
    donchian,
    ema,
    keltner,
    macd,
    mfi,
    momentum,
    obv,
    psar,
    rsi,
    sma,
    stddev,
    stochastic,
    trix,
    volume_ratio,
    vwap,
    williams_r,
    wma,
)
from actors.indicators.live.kernel import LiveIndicator

_ALL = (
    sma.LIVE,
    ema.LIVE,
    wma.LIVE,
    dema.LIVE,
    rsi.LIVE,
    cutler_rsi.LIVE,
    macd.LIVE,
    bollinger.LIVE,
    stochastic.FAST,
    stochastic.SLOW,
    atr.ATR,
    atr.NATR,
    adx.LIVE,
    cci.LIVE,
    momentum.ROC,
    momentum.MOMENTUM,
    williams_r.LIVE,
    obv.LIVE,
    mfi.LIVE,
    vwap.VWAP,
    vwap.ROLLING,
    donchian.LIVE,
    keltner.LIVE,
    aroon.LIVE,
    trix.LIVE,
    psar.LIVE,
    stddev.LIVE,
    volume_ratio.LIVE,
)

LIVE_INDICATORS: Mapping[str, LiveIndicator] = {indicator.name: indicator for indicator in _ALL}
