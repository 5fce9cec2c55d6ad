"""How kernels see bars, and what every live indicator says of itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from infra.errors import ParameterInvalid, RangeInvalid

F = TypeVar("F", bound=Callable[..., Any])

Params = tuple[float, ...]
_WHERE = ("query", "indicators")


def kernel(function: F) -> F:
    """Compile a kernel, kept on the disk; divisions by zero give infinity or NaN, as in numpy."""
    compiled: F = cast(F, numba.njit(cache=True, error_model="numpy")(function))
    return compiled


def inline(function: F) -> F:
    """Compile what kernels call."""
    compiled: F = cast(F, numba.njit(cache=True, inline="always", error_model="numpy")(function))
    return compiled


@dataclass(frozen=True, slots=True)
class Parameter:
    """One number that an indicator takes; whole ones are periods in bars."""

    name: str
    default: float
    least: float
    most: float
    is_whole: bool = True

    def checked(self, indicator: str, value: float) -> float:
        """Return the value; raises RangeInvalid outside the bounds."""
        whole = not self.is_whole or float(value).is_integer()
        if not (whole and self.least <= value <= self.most):
            kind = "a whole number" if self.is_whole else "a number"
            raise RangeInvalid(
                _WHERE,
                f"{indicator}: {self.name} must be {kind} from {self.least:g} to {self.most:g}, "
                f"got {value:g}",
            )
        return float(value)


def period(default: int, least: int = 2, most: int = 500, name: str = "period") -> Parameter:
    """Return a parameter that counts bars."""
    return Parameter(name, default, least, most)


def checked_params(name: str, parameters: Sequence[Parameter], given: Sequence[float]) -> Params:
    """Return all parameters of an indicator, defaults where none is given.

    Raises RangeInvalid for a value outside its bounds, ParameterInvalid for too many.
    """
    if len(given) > len(parameters):
        raise ParameterInvalid(_WHERE, name, [usage(name, parameters)])
    filled = [*given, *(p.default for p in parameters[len(given) :])]
    pairs = zip(parameters, filled, strict=True)
    return tuple(parameter.checked(name, value) for parameter, value in pairs)


def usage(name: str, parameters: Sequence[Parameter]) -> str:
    """Return how an indicator is asked for: `bbands(timeperiod,nbdevup,nbdevdn,matype)`."""
    names = ",".join(parameter.name for parameter in parameters)
    return f"{name}({names})" if names else name


@dataclass(frozen=True, slots=True)
class LiveIndicator:
    """An indicator that is updated bar by bar.

    `kernel(rows, index, final, bars, state, params, out)`: for element k, the newest bar of symbol
    `rows[k]` has number `index[k]` (0 is the first ever); its outputs go to `out[k]`, NaN while
    there are too few bars, and `state[rows[k]]` is changed only where `final[k]`, so that a bar
    under way may come any number of times. `bars` is `Columns.arrays`. Elements of one symbol come
    in order.

    `warm_up(params)`: the number of the first bar that has all outputs. `window(params)`: how many
    bars back from the newest one the kernel looks, itself included. `state_size(params)`: floats.
    `formula` and `source` are for people. `intraday_only`: means nothing on bars of a day.
    """

    name: str
    title: str
    parameters: tuple[Parameter, ...]
    outputs: tuple[str, ...]
    kernel: Callable[..., None]
    warm_up: Callable[[Params], int]
    window: Callable[[Params], int]
    state_size: Callable[[Params], int]
    formula: str
    source: str
    inputs: tuple[str, ...] = ("close",)
    intraday_only: bool = False

    def params(self, given: Sequence[float]) -> Params:
        """Return all parameters, as `checked_params`."""
        return checked_params(self.name, self.parameters, given)


# -- bars, as kernels see them -----------------------------------------------------------------

OPEN, HIGH, LOW, CLOSE, VOLUME, SESSION = range(6)


class Columns:
    """The last bars of each symbol: one ring a symbol and field, by bar number.

    `arrays`: float64 (6, n_symbols, capacity): open, high, low, close, volume, and the number of
    the session's day. Bar b is at b & (capacity - 1), capacity a power of two.
    """

    def __init__(self, symbols: int, window: int) -> None:
        self.capacity = 1 << max(6, int(window - 1).bit_length() + 1)
        self.arrays: NDArray[np.float64] = np.zeros((6, symbols, self.capacity))

    def __len__(self) -> int:
        return int(self.arrays.shape[1])

    def grow(self, symbols: int) -> None:
        """Make room for so many symbols."""
        more = np.zeros((6, symbols - len(self), self.capacity))
        self.arrays = np.concatenate((self.arrays, more), axis=1)

    def shrink(self, symbols: int) -> None:
        """Keep the first so many symbols."""
        self.arrays = self.arrays[:, :symbols].copy()


@inline
def at(bars, field, row, index):
    """Return a field of one bar."""
    return bars[field, row, index & (bars.shape[2] - 1)]


@inline
def typical(bars, row, index):
    """Return the mean of high, low and close."""
    place = index & (bars.shape[2] - 1)
    return (bars[HIGH, row, place] + bars[LOW, row, place] + bars[CLOSE, row, place]) / 3.0


@inline
def highest(bars, field, row, index, count):
    """Return the highest of the last `count` values."""
    mask = bars.shape[2] - 1
    found = bars[field, row, index & mask]
    for back in range(1, count):
        value = bars[field, row, (index - back) & mask]
        if value > found:
            found = value
    return found


@inline
def lowest(bars, field, row, index, count):
    """Return the lowest of the last `count` values."""
    mask = bars.shape[2] - 1
    found = bars[field, row, index & mask]
    for back in range(1, count):
        value = bars[field, row, (index - back) & mask]
        if value < found:
            found = value
    return found


@inline
def true_range(bars, row, index):
    """Return Wilder's true range: high to low, or from the close before where that is farther."""
    mask = bars.shape[2] - 1
    place = index & mask
    high, low = bars[HIGH, row, place], bars[LOW, row, place]
    before = bars[CLOSE, row, (index - 1) & mask]
    found = high - low
    up, down = abs(high - before), abs(low - before)
    if up > found:
        found = up
    if down > found:
        found = down
    return found


@inline
def window_sum(bars, field, row, index, count):
    """Return the sum of the last `count` values, its rounding kept and added at the end."""
    mask = bars.shape[2] - 1
    total, rest = 0.0, 0.0
    for back in range(count):
        value = bars[field, row, (index - back) & mask]
        grown = total + value
        if abs(total) >= abs(value):
            rest += (total - grown) + value
        else:
            rest += (value - grown) + total
        total = grown
    return total + rest


@inline
def rolled(bars, field, row, index, count, total, rest):
    """Return the window's sum one bar on, as a sum and its rounding: two additions, exact."""
    mask = bars.shape[2] - 1
    for value in (bars[field, row, index & mask], -bars[field, row, (index - count) & mask]):
        grown = total + value
        if abs(total) >= abs(value):
            rest += (total - grown) + value
        else:
            rest += (value - grown) + total
        total = grown
    return total, rest
