"""Keep what functions give."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from infra.caches.base import CACHE_DEFAULT, checked_lifetime, checked_name
from infra.caches.catalogue import API_RESPONSE, DEFAULT, NEWS, PRICE_DATA, TECHNICAL_ANALYSIS
from infra.caches.keys import CallKeys, shortened, text_of
from infra.caches.layered import Keeping, NamedCache
from infra.caches.named import caches
from infra.errors import KeyUnusable, SymbolUnknown
from infra.symbols import normalise

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_SYMBOLS = ("symbol", "symbols")


class Cached(Protocol[P, R_co]):
    """A function whose results are kept; called like the function."""

    cache_name: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Return the result, kept or made."""

    def __get__(self, instance: Any, owner: Any) -> Callable[..., R_co]:
        """Return it as the method of an object."""

    def cache_key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key of a call."""

    def cache_delete(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the result of a call here and where processes share it; say whether it was there.

        What another process holds near it gives until its lifetime is over.
        """


class Decorator(Protocol):
    """Makes a function one whose results are kept."""

    def __call__(self, function: Callable[P, R], /) -> Cached[P, R]:
        """Return the function, cached."""


def cache_result(
    cache_name: str = DEFAULT,
    ttl: float | None = CACHE_DEFAULT,
    key: Callable[..., Any] | None = None,
    *,
    stale: float = 0.0,
    none: bool = False,
    errors: type[Exception] | tuple[type[Exception], ...] = (),
    symbols: str | Callable[..., Iterable[str]] | None = None,
    ignore: Iterable[str] = (),
    share: bool = False,
    local: bool = False,
) -> Decorator:
    """Keep what a function, plain or async, gives for the same arguments.

    `ttl`: seconds; 0 never stores, None never expires, left out it is the cache's own. For
    `stale` more seconds the old value is given while a new one is made. `key`: returns what
    stands for the arguments; without it their values do. `none`, `errors`: keep None, and these
    errors, too. `symbols`: the argument that names the symbols, or a function of the arguments
    that returns them: when one gets new data, what was made before is not given any more.
    `ignore`: arguments that change nothing. `share`: give the kept object itself, which nobody
    may alter. `local`: keep it in this process only.

    Calls raise KeyUnusable for an argument without a value to make a key of. A wrong lifetime or
    name, and generators, are refused here. Inside a service (a task, a driver that is connected)
    other processes get what one made, if it can be sent without pickle.
    """
    if callable(cache_name):
        raise TypeError("write @cache_result() with its parentheses")
    checked_name(cache_name)
    if ttl is not CACHE_DEFAULT:
        checked_lifetime(ttl)
    if checked_lifetime(stale, "stale") is None:
        raise ValueError("stale is seconds; with ttl=None nothing gets stale")
    caught = errors if isinstance(errors, tuple) else (errors,)
    base = Keeping(ttl, stale, (), none, caught, share, not local)

    def decorate(function: Callable[P, R], /) -> Cached[P, R]:
        return _cached(function, cache_name, base, key, symbols, ignore)

    return decorate


def cache_technical_analysis(ttl: float | None = 600.0, **options: Any) -> Decorator:
    """Keep analyses: ten minutes, and not beyond new data of an argument `symbol` or `symbols`."""
    return cache_result(TECHNICAL_ANALYSIS, ttl, **{"symbols": "auto", **options})


def cache_news_data(ttl: float | None = 300.0, **options: Any) -> Decorator:
    """Keep news: five minutes."""
    return cache_result(NEWS, ttl, **options)


def cache_price_data(ttl: float | None = 3_600.0, **options: Any) -> Decorator:
    """Keep prices: an hour, and not beyond new data of an argument `symbol` or `symbols`."""
    return cache_result(PRICE_DATA, ttl, **{"symbols": "auto", **options})


def cache_api_response(ttl: float | None = 180.0, **options: Any) -> Decorator:
    """Keep answers of other services: three minutes."""
    return cache_result(API_RESPONSE, ttl, **options)


def _cached(
    function: Callable[P, R],
    cache_name: str,
    base: Keeping,
    key: Callable[..., Any] | None,
    symbols: str | Callable[..., Iterable[str]] | None,
    ignore: Iterable[str],
) -> Cached[P, R]:
    if isinstance(function, (staticmethod, classmethod)):
        raise TypeError("put the cache under @staticmethod or @classmethod, not over it")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{function.__qualname__} gives values one by one, which are not kept")
    if not callable(function):
        raise TypeError(f"a cache keeps what a function gives, not a {type(function).__name__}")
    calls = _Calls(CallKeys(function, ignore), base, key, symbols)

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
            whole, keeping = calls.prepared(args, kwargs)
            return await named().get_or_await(whole, lambda: function(*args, **kwargs), keeping)

        cached: Any = awaited
    else:

        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> Any:
            whole, keeping = calls.prepared(args, kwargs)
            return named().get_or_set(whole, lambda: function(*args, **kwargs), keeping)

        cached = called

    def named() -> NamedCache:
        return caches.named(cache_name)

    cached.cache_name = cache_name
    cached.cache_key = lambda *args, **kwargs: calls.prepared(args, kwargs)[0]
    cached.cache_delete = lambda *args, **kwargs: named().forget(calls.prepared(args, kwargs)[0])
    return cast(Cached[P, R], cached)


class _Calls:
    """Makes of a function's calls their keys, and of what symbols their results are."""

    def __init__(
        self,
        keys: CallKeys,
        base: Keeping,
        key: Callable[..., Any] | None,
        symbols: str | Callable[..., Iterable[str]] | None,
    ) -> None:
        self._keys = keys
        self._base = base
        self._key = key
        self._symbols = symbols

    def prepared(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str, Keeping]:
        arguments = self._keys.arguments(args, kwargs)
        if self._key is None:
            whole = self._keys.key(arguments)
        else:
            try:
                text = text_of(self._key(*args, **kwargs))
            except TypeError as error:
                raise KeyUnusable(self._keys.name, "key", str(error)) from None
            whole = shortened(f"{self._keys.name}({text})")
        symbols = self._of_symbols(arguments, args, kwargs)
        if not symbols:
            return whole, self._base
        base = self._base
        return whole, Keeping(
            base.ttl_s, base.stale_s, symbols, base.none, base.errors, base.shares, base.is_shared
        )

    def _of_symbols(
        self, arguments: Mapping[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[str, ...]:
        if self._symbols is None:
            return ()
        if callable(self._symbols):
            named: Any = self._symbols(*args, **kwargs)
        elif self._symbols == "auto":
            named = next((arguments[n] for n in _SYMBOLS if n in arguments), ())
        else:
            named = arguments[self._symbols]
        listed = [named] if isinstance(named, str) else named if _is_listed(named) else ()
        return tuple(dict.fromkeys(_symbol(s) for s in listed if isinstance(s, str)))


def _is_listed(named: Any) -> bool:
    return isinstance(named, (list, tuple, set, frozenset, dict)) or hasattr(named, "keys")


def _symbol(text: str) -> str:
    try:
        return normalise(text)
    except SymbolUnknown:
        return text  # no symbol that could get new data
