"""Task functions by name: what they take, and the policy that was declared with them."""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from infra.errors import ConfigError, TaskArgumentsInvalid, TaskNotStorable, TaskUnknown
from infra.near_names import near_names
from pipelines.codec import encoded
from pipelines.context import TaskContext
from pipelines.submission import TaskPriority, policy_fault

BUILTIN = "pipelines.tasks"  # a folder, by name as users' modules are
NAME_CHARS = 200
_TARGET_CHARS = 300
_ARGUMENT_BYTES = 4 * 2**20  # with room for quoting within a packet of MariaDB

_known: dict[str, TaskSpec] = {}


@dataclass(frozen=True, slots=True, eq=False)
class TaskSpec:
    """A function that can run as a task; `target` is where it is, `module:name`.

    What is `destructive` takes something away for good: people are asked before it runs.
    """

    name: str
    target: str
    function: Callable[..., Any]
    priority: TaskPriority
    max_retries: int
    timeout_s: float | None
    retry_delay_s: float
    unique_by: tuple[str, ...]
    model: type[BaseModel]
    signature: inspect.Signature
    context_name: str | None
    destructive: bool = False

    @property
    def title(self) -> str:
        """Return the first line of the function's documentation."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def parameters(self) -> list[str]:
        """Return the names of what it takes."""
        return list(self.signature.parameters)

    @property
    def is_importable(self) -> bool:
        """Return whether another process can find it by its target."""
        module, _, name = self.target.partition(":")
        return module != "__main__" and "<" not in name

    def arguments(self, args: Sequence[Any], kwargs: dict[str, Any]) -> bytes:
        """Return arguments as they are stored; raises TaskArgumentsInvalid, TaskNotStorable."""
        self.checked(args, kwargs)
        return self.encoded(args, kwargs)

    def encoded(self, args: Sequence[Any], kwargs: dict[str, Any]) -> bytes:
        """Return arguments as they are stored, unchecked; raises TaskNotStorable."""
        text = encoded({"args": list(args), "kwargs": kwargs}, f"the arguments of {self.name}")
        if len(text) > _ARGUMENT_BYTES:
            raise TaskNotStorable(
                f"the arguments of {self.name} have {len(text):,} bytes, the limit is "
                f"{_ARGUMENT_BYTES:,}: give the name of a file"
            )
        return text

    def bind_partial(self, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Check arguments before which one more will stand; raises TaskArgumentsInvalid."""
        try:
            self.signature.bind(None, *args, **kwargs)
        except TypeError as error:
            problems = self._unbound((None, *args), kwargs, error)
            raise TaskArgumentsInvalid(self.name, problems) from None

    def checked(self, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return arguments by name, as the types that the function declares.

        Raises TaskArgumentsInvalid, which names each that is wrong.
        """
        try:
            bound = self.signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TaskArgumentsInvalid(self.name, self._unbound(args, kwargs, error)) from None
        try:
            model = self.model.model_validate(bound)
        except ValidationError as error:
            problems = [
                (".".join(str(part) for part in item["loc"]), str(item["msg"]))
                for item in error.errors()
            ]
            raise TaskArgumentsInvalid(self.name, problems) from None
        return {name: getattr(model, _field(self.parameters.index(name))) for name in bound}

    def bound(self, values: dict[str, Any], context: TaskContext) -> inspect.BoundArguments:
        """Return checked arguments as they are given to the function."""
        if self.context_name is not None:
            values = values | {self.context_name: context}
        return inspect.BoundArguments(inspect.signature(self.function), values)

    def unique_key(self, args: Sequence[Any], kwargs: dict[str, Any]) -> str | None:
        """Return what two submissions share that are the same work; None if none ever are."""
        if not self.unique_by:
            return None
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        values = {name: bound.arguments[name] for name in self.unique_by}
        text = orjson.dumps([self.name, orjson.loads(encoded(values, "the key"))])
        return hashlib.sha256(text).hexdigest()

    def _unbound(
        self, args: Sequence[Any], kwargs: dict[str, Any], error: TypeError
    ) -> list[tuple[str, str]]:
        parameters = self.signature.parameters
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        problems = [
            (name, f"not taken; it takes {', '.join(parameters) or 'nothing'}")
            for name in kwargs
            if name not in parameters and not takes_any
        ]
        by_place = list(parameters)[: len(args)]
        problems += [
            (name, "missing")
            for name, p in parameters.items()
            if p.default is p.empty
            and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
            and name not in kwargs
            and name not in by_place
        ]
        return problems or [("args", str(error))]


def declare(spec: TaskSpec) -> None:
    """Make a task known by its name.

    Raises ConfigError for a name that another one has, ValueError for one that no store takes.
    """
    _check_name("the name", spec.name, NAME_CHARS)
    _check_name("the place", spec.target, _TARGET_CHARS)
    known = _known.get(spec.name)
    if known is not None and known.target != spec.target:
        raise ConfigError(f"two tasks are called {spec.name!r}: {known.target}, {spec.target}")
    _known[spec.name] = spec


def spec_of(
    function: Callable[..., Any],
    name: str | None,
    priority: TaskPriority,
    max_retries: int,
    timeout_s: float | None,
    retry_delay_s: float,
    unique_by: Iterable[str],
    destructive: bool = False,
) -> TaskSpec:
    """Return what a declaration means; raises TypeError and ValueError where it means nothing."""
    if not callable(function):
        raise TypeError("@task goes on a function")
    if (wrong := policy_fault(max_retries, timeout_s, retry_delay_s)) is not None:
        raise ValueError(wrong)
    signature, hints = inspect.signature(function), _hints(function)
    context = [n for n in signature.parameters if hints.get(n) is TaskContext]
    taken = [p for n, p in signature.parameters.items() if n not in context]
    keys = tuple(unique_by)
    if missing := [key for key in keys if key not in signature.parameters]:
        raise ValueError(f"unique_by names {missing[0]!r}, which {function.__qualname__} lacks")
    module, qualname = function.__module__, function.__qualname__
    return TaskSpec(
        name=name or f"{module}.{function.__name__}",
        target=f"{module}:{qualname}",
        function=function,
        priority=TaskPriority(priority),
        max_retries=max_retries,
        timeout_s=timeout_s,
        retry_delay_s=retry_delay_s,
        unique_by=keys,
        model=_model(function.__name__, taken, hints),
        signature=inspect.Signature(taken),
        context_name=context[0] if context else None,
        destructive=destructive,
    )


def task_named(name: str) -> TaskSpec:
    """Return a task that is known here; raises TaskUnknown with the names that are."""
    load_builtin()
    found = _known.get(name)
    if found is None:
        raise TaskUnknown(name, near_names(name, _known), sorted(_known))
    return found


def find_loaded(name: str) -> TaskSpec | None:
    """Return a task of a module that was imported here, or None."""
    return _known.get(name)


def all_tasks() -> dict[str, TaskSpec]:
    """Return every task that is known here, by name."""
    load_builtin()
    return dict(sorted(_known.items()))


@functools.cache
def load_builtin() -> None:
    """Import the tasks that come with Finstage."""
    for module in pkgutil.iter_modules(importlib.import_module(BUILTIN).__path__):
        importlib.import_module(f"{BUILTIN}.{module.name}")


def load_modules(names: Iterable[str]) -> None:
    """Import users' modules, whose tasks are known then; raises ConfigError if one fails."""
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise ConfigError(
                f"FINSTAGE_TASK_MODULES: {name} cannot be imported: {error!r}; "
                "it must be on PYTHONPATH of the service"
            ) from error


def _check_name(what: str, name: str, most: int) -> None:
    """Raise ValueError for what is not the same in every database: see `code` of the tables."""
    shown = ascii(name[:80])
    if not name or len(name) > most:
        raise ValueError(f"{what} of a task has 1 to {most} characters, {shown} has {len(name)}")
    if not (name.isascii() and name.isprintable()) or name != name.strip():
        raise ValueError(
            f"{what} of a task is ASCII without a blank at its ends, {shown} is not: "
            "give @task(name=…), or the function and its module another name"
        )


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # names that exist for type checkers only: these arguments go unchecked
        return {}


def _model(
    name: str, parameters: Sequence[inspect.Parameter], hints: dict[str, Any]
) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for number, parameter in enumerate(parameters):
        hint: Any = hints.get(parameter.name, Any)
        is_needed = parameter.default is parameter.empty
        if parameter.kind is parameter.VAR_POSITIONAL:
            hint, is_needed = tuple.__class_getitem__((hint, ...)), False
        elif parameter.kind is parameter.VAR_KEYWORD:
            hint, is_needed = dict.__class_getitem__((str, hint)), False
        # Of what is not given the function itself has the default.
        default = Field(alias=parameter.name) if is_needed else Field(None, alias=parameter.name)
        fields[_field(number)] = (hint, default)
    config = ConfigDict(arbitrary_types_allowed=True)
    return create_model(name, __config__=config, **fields)


def _field(number: int) -> str:
    """Return a parameter's name in the model: its own may mean something there, as `_x` does."""
    return f"argument_{number}"
