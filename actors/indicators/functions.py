"""The catalogue: every indicator by name, what it takes and gives, and its values over a history.

Ours, which can also be live, go before TA-Lib's of the same name; the rest of TA-Lib is there by
its own names in small letters.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import talib
from talib import abstract

from actors.indicators.live.kernel import (
    SESSION,
    Columns,
    LiveIndicator,
    Parameter,
    Params,
    checked_params,
    usage,
)
from actors.indicators.live.registry import LIVE_INDICATORS
from infra.bars import NS_PER_DAY, Bars, Floats
from infra.errors import ParameterInvalid, RangeInvalid
from infra.symbols import nearest

_MOST_BARS = 500
_MOST_TYPE = 20  # more than TA-Lib has of moving averages
_FIELDS = ("open", "high", "low", "close", "volume")
_VARIABLE_PERIOD = 30.0  # MAVP wants a period for each bar; all have this one
_CATALOGUE = "/api/v2/technical-analysis/catalog"
_SOURCE = "https://ta-lib.org/functions/"


def _talib(name: str) -> Any:
    return abstract.Function(name)  # type: ignore[attr-defined]  # it has no stubs


@dataclass(frozen=True, slots=True)
class Function:
    """One entry of the catalogue; `warm_up(params)` is the number of the first bar with values."""

    name: str
    title: str
    group: str
    inputs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    outputs: tuple[str, ...]
    formula: str
    source: str
    live: LiveIndicator | None

    def params(self, given: Sequence[float]) -> Params:
        """Return all parameters, as `checked_params`."""
        if self.name == "bbands" and len(given) == 2:
            given = (*given, given[1])  # one width means both
        return checked_params(self.name, self.parameters, given)

    def warm_up(self, params: Params) -> int:
        """Return the number of the first bar that has values; RangeInvalid where there is none."""
        if self.live is not None:
            return self.live.warm_up(params)
        function = _talib(self.name.upper())
        function.parameters = self._talib_parameters(params)
        return int(function.lookback)

    def compute(self, bars: Bars, params: Params) -> dict[str, Floats]:
        """Return each output over all bars (float64, NaN where there is no value).

        Cost grows with the number of bars: some 30 ns a bar, TA-Lib's patterns more. Raises
        RangeInvalid where TA-Lib takes the parameters one by one but not together.
        """
        if self.live is not None:
            return _over_history(self.live, bars, params)
        return self._by_talib(bars, params)

    def _by_talib(self, bars: Bars, params: Params) -> dict[str, Floats]:
        nothing = {name: np.full(len(bars), np.nan) for name in self.outputs}
        if len(bars) == 0:
            return nothing
        columns = {name: np.asarray(getattr(bars, name), np.float64) for name in _FIELDS}
        columns["periods"] = np.full(len(bars), _VARIABLE_PERIOD)
        function = _talib(self.name.upper())
        try:
            found = function(columns, **self._talib_parameters(params))
        except Exception as error:  # TA-Lib raises nothing more special
            if "TA_BAD_PARAM" not in str(error):
                if "Insufficient" in str(error) or "inputs are all NaN" in str(error):
                    return nothing
                raise
            told = f"{self.name} does not take {', '.join(f'{p:g}' for p in params)} together"
            raise RangeInvalid(("query", "indicators"), told) from None
        lines = found if isinstance(found, (list, tuple)) else [found]
        return {
            name: np.asarray(line, np.float64)
            for name, line in zip(self.outputs, lines, strict=True)
        }

    def _talib_parameters(self, params: Params) -> dict[str, float]:
        return {
            p.name: int(value) if p.is_whole else value
            for p, value in zip(self.parameters, params, strict=True)
        }

    def described(self) -> dict[str, Any]:
        """Return the entry for the API."""
        defaults = tuple(parameter.default for parameter in self.parameters)
        return {
            "name": self.name,
            "title": self.title,
            "group": self.group,
            "usage": usage(self.name, self.parameters),
            "inputs": list(self.inputs),
            "parameters": [
                {
                    "name": p.name,
                    "default": p.default,
                    "minimum": p.least,
                    "maximum": p.most,
                    "whole": p.is_whole,
                }
                for p in self.parameters
            ],
            "outputs": list(self.outputs),
            "warm_up_bars": self.warm_up(defaults) + 1,
            "formula": self.formula,
            "source": self.source,
            "live": self.live is not None,
            "intraday_only": self.live is not None and self.live.intraday_only,
        }


def _over_history(live: LiveIndicator, bars: Bars, params: Params) -> dict[str, Floats]:
    """Run a live indicator's kernel over a whole history, in one call."""
    count = len(bars)
    out = np.full((count, len(live.outputs)), np.nan)
    if count:
        columns = Columns(1, count)
        for number, name in enumerate(_FIELDS):
            columns.arrays[number, 0, :count] = getattr(bars, name)
        columns.arrays[SESSION, 0, :count] = bars.opened_at_ns // NS_PER_DAY
        live.kernel(
            np.zeros(count, np.int64),
            np.arange(count),
            np.ones(count, np.bool_),
            columns.arrays,
            np.zeros((1, live.state_size(params))),
            np.array(params, np.float64),
            out,
        )
    return dict(zip(live.outputs, out.T, strict=True))


@functools.cache
def functions() -> Mapping[str, Function]:
    """Return the whole catalogue by name."""
    ours = {name: _ours(indicator) for name, indicator in LIVE_INDICATORS.items()}
    theirs = {name.lower(): _theirs(name) for name in _talib_names()}
    return ours | {name: entry for name, entry in theirs.items() if name not in ours}


def _talib_names() -> list[str]:
    names: list[str] = talib.get_functions()  # type: ignore[no-untyped-call]
    return names


def function_named(name: str, others: Sequence[str] = ()) -> Function:
    """Return an entry; raises ParameterInvalid that names those most alike, `others` too."""
    found = functions().get(name)
    if found is None:
        alike = nearest(name, [*others, *functions()], 5)
        raise ParameterInvalid(("query", "indicators"), name, alike, _CATALOGUE)
    return found


def _ours(indicator: LiveIndicator) -> Function:
    return Function(
        indicator.name,
        indicator.title,
        "Live",
        indicator.inputs,
        indicator.parameters,
        indicator.outputs,
        indicator.formula,
        indicator.source,
        indicator,
    )


def _theirs(name: str) -> Function:
    info = _talib(name).info
    inputs: list[str] = []
    for column in info["input_names"].values():
        inputs += [column] if isinstance(column, str) else column
    return Function(
        name.lower(),
        info["display_name"],
        info["group"],
        tuple(inputs),
        tuple(_parameter(name, text, value) for text, value in info["parameters"].items()),
        tuple(info["output_names"]),
        f"TA-Lib's {name}",
        _SOURCE,
        None,
    )


def _parameter(function: str, name: str, default: float) -> Parameter:
    """Return a parameter with the bounds that TA-Lib has, bars at most 500."""
    if name.endswith("matype"):
        types = range(_MOST_TYPE, -1, -1)
        return Parameter(name, default, 0, next(n for n in types if _takes(function, name, n)))
    if isinstance(default, int):
        least = next((n for n in (0, 1, 2, 3) if _takes(function, name, n)), default)
        return Parameter(name, default, least, _MOST_BARS)
    most = next((n for n in (1e4, 100.0, 1.0, 0.99) if _takes(function, name, n)), default)
    low = next((n for n in (-1e4, 0.0, 0.01, 0.1, 1.0) if _takes(function, name, n)), default)
    return Parameter(name, default, low, most, is_whole=False)


def _takes(function: str, name: str, value: float) -> bool:
    ones = np.linspace(1.0, 2.0, 700)
    columns = dict.fromkeys((*_FIELDS, "periods"), ones)
    try:
        _talib(function)(columns, **{name: value})
    except Exception as error:
        return "TA_BAD_PARAM" not in str(error)
    return True
