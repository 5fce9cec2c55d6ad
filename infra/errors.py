"""Every error that Finstage raises on purpose, in one tree.

Each class carries its HTTP status, a stable code for clients, and whether a retry can help. Those
with facts declare them as fields, and their sentence as a text of these.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar, dataclass_transform

E = TypeVar("E", bound="FinstageError")

_LONGEST_QUOTED = 80
_CLAUSE = re.compile(r"\[([^\]]*)\]")


@dataclass_transform(eq_default=False)
def declared(cls: type[E]) -> type[E]:
    """Make an error of its fields, which are its arguments: it crosses process borders so."""
    return dataclass(eq=False, repr=False)(cls)


class _Sentence(string.Formatter):
    """`{field}`; a list is joined, `!r` quotes and shortens, `[...]` stands where it says some."""

    def of(self, error: FinstageError) -> str:
        """Return the words of an error with its facts in them."""
        words = _CLAUSE.sub(lambda clause: self._clause(clause[1], error), error.words)
        return self.vformat(words, (error,), {})

    def _clause(self, text: str, error: FinstageError) -> str:
        values = (getattr(error, name) for _, name, *_ in self.parse(text) if name)
        return "" if any(value in (None, "", (), []) for value in values) else text

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return getattr(args[0], str(key))

    def convert_field(self, value: Any, conversion: Any) -> Any:
        return repr(str(value)[:_LONGEST_QUOTED]) if conversion == "r" else value

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, list | tuple):
            return ", ".join(map(str, value))
        return str(super().format_field(value, format_spec))


_SENTENCE = _Sentence()


class FinstageError(Exception):
    """Base of every error raised on purpose; anything else is a bug.

    `words`: the sentence, of fields; without, it is the only argument. `shown`: what clients get
    as `context`, by name.
    """

    status_code: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    code: ClassVar[str] = "internal"
    words: ClassVar[str] = ""
    shown: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        self.args = tuple(getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]

    @property
    def message(self) -> str:
        """One sentence for the caller; never a path, never a traceback."""
        if self.words:
            return _SENTENCE.of(self)
        return str(self.args[0]) if self.args else type(self).__name__

    @property
    def context(self) -> dict[str, Any]:
        """Facts that help the caller mend the call, such as the allowed values."""
        return {name: getattr(self, field) for name, field in self.shown.items()}

    def __str__(self) -> str:
        return self.message


class RequestError(FinstageError):
    """Raised when the caller asked for something that cannot be."""

    status_code = 422
    code = "request_invalid"


@declared
class SymbolUnknown(RequestError):
    """Raised when neither the source nor an import knows the symbol."""

    status_code = 404
    code = "symbol_unknown"
    words = "symbol {symbol!r} is not known[; nearest known: {nearest}][; {form}]"
    shown = {"nearest": "nearest"}

    symbol: str
    nearest: Sequence[str] = ()
    form: str = ""  # how symbols are written, where it is not so


@declared
class ParameterInvalid(RequestError):
    """Raised when a parameter's value is not one of those allowed.

    `location` is where the value came from, FastAPI's way: `("query", "period")`. `catalogue`:
    the path of a list of all that is allowed, where `allowed` are only those most alike.
    """

    code = "parameter_invalid"
    words = "{parameter} {value!r} is not allowed; use one of {allowed}[, or see {catalogue}]"
    shown = {"allowed": "allowed"}

    location: Sequence[str]
    value: object
    allowed: Sequence[str]
    catalogue: str = ""

    @property
    def parameter(self) -> str:
        """The parameter's name."""
        return self.location[-1]


@declared
class ExpressionInvalid(RequestError):
    """Raised when an expression cannot be read; `column` counts characters from 1."""

    code = "expression_invalid"

    column: int
    reason: str
    text: str
    location: Sequence[str] = ("body", "expression")

    @property
    def message(self) -> str:
        around = self.text[max(0, self.column - 1) : self.column + 20]
        place = f"column {self.column}, at {around!r}" if around else "the end"
        return f"{place}: {self.reason}"

    @property
    def context(self) -> dict[str, Any]:
        return {"column": self.column, "expression": self.text[:200]}


class IntervalUnsupported(ParameterInvalid):
    """Raised when the source has no bars of this interval."""

    code = "interval_unsupported"


@declared
class RangeInvalid(RequestError):
    """Raised when a value or a list is outside its bounds; the message names both."""

    code = "range_invalid"
    words = "{reason}"

    location: Sequence[str]
    reason: str
    limit: int | None = None

    @property
    def context(self) -> dict[str, Any]:
        return {} if self.limit is None else {"limit": self.limit}


class ParameterUnknown(ParameterInvalid):
    """Raised when nothing reads a parameter, and its name is near to one that is read."""

    code = "parameter_unknown"
    words = "there is no {parameter!r} here; {value!r} is probably meant"
    shown = {"nearest": "value", "allowed": "allowed"}


class BodyInvalid(RangeInvalid):
    """Raised when a body is not read as it was sent."""

    code = "body_invalid"


@declared
class JobUnknown(RequestError):
    """Raised when no scheduled job has this name."""

    status_code = 404
    code = "job_unknown"
    words = "no job is called {name!r}[; nearest known: {nearest}]; there are {known}"
    shown = {"nearest": "nearest", "known": "known"}

    name: str
    nearest: Sequence[str]
    known: Sequence[str]


@declared
class SignalUnknown(RequestError):
    """Raised when no kept signal has this number, or nothing is known of what became of it."""

    status_code = 404
    code = "signal_unknown"
    words = "nothing is known yet of what became of signal {signal_id}"

    signal_id: int


@declared
class AlertRuleUnknown(RequestError):
    """Raised when no alert rule has this id."""

    status_code = 404
    code = "alert_rule_unknown"
    words = "no alert rule has the id {rule_id!r}"

    rule_id: str


@declared
class MonitorUnknown(RequestError):
    """Raised when the monitor has no such thing: a rule, an alert, an A/B test, a reading."""

    status_code = 404
    code = "monitor_unknown"
    words = "there is no {kind}[ {name!r}][; nearest known: {nearest}]"
    shown = {"nearest": "nearest"}

    kind: str
    name: str = ""
    nearest: Sequence[str] = ()


class MonitorConflict(RequestError):
    """Raised when a thing of the monitor is not in a state for what is asked."""

    status_code = 409
    code = "monitor_conflict"


@declared
class TargetInvalid(RequestError):
    """Raised when nothing can be sent to a target, which is told without its secrets."""

    code = "target_invalid"
    words = "{target} cannot be told: {reason}"

    target: str
    reason: str
    location: Sequence[str] = ("body", "targets")


@declared
class JobRunning(RequestError):
    """Raised when a job is asked to run that runs already."""

    status_code = 409
    code = "job_running"
    retryable = True
    words = "{name} runs already; two of one job never run at once"

    name: str


@declared
class BodyTooLarge(RequestError):
    """Raised when a request's body is longer than the setting allows."""

    status_code = 413
    code = "body_too_large"
    words = "a body is at most {limit_bytes} bytes"

    limit_bytes: int


class ImportUnreadable(RequestError):
    """Raised when a file cannot be read as bars, or written as what its name says."""

    code = "import_unreadable"


@declared
class NotImported(RequestError):
    """Raised when there is no import of a symbol to delete."""

    status_code = 404
    code = "not_imported"
    words = "nothing is imported of {symbol}[ {intervals}]"

    symbol: str
    intervals: Sequence[str] = ()


class NotBuilt(RequestError):
    """Raised when a documented feature is not there in this installation."""

    status_code = 501
    code = "not_implemented"


@declared
class CacheUnknown(RequestError):
    """Raised when there is no cache of that name."""

    status_code = 404
    code = "cache_unknown"
    words = "there is no cache {name!r}; there are {known}"
    shown = {"allowed": "known"}

    name: str
    known: Sequence[str]


@declared
class KeyUnusable(RequestError):
    """Raised when an argument of a cached function has no value to make a key of."""

    code = "cache_key_unusable"
    words = (
        "{function} cannot be cached by its argument {argument!r}: it {reason}; give key=, "
        "leave it out with ignore=({argument!r},), or give its class a method cache_key()"
    )

    function: str
    argument: str
    reason: str


class ValueNotShareable(FinstageError):
    """Raised when a value has no form in which other processes could read it."""

    code = "value_not_shareable"


class AccessError(FinstageError):
    """Raised when the caller may not do this."""

    status_code = 403
    code = "forbidden"


class KeyRequired(AccessError):
    """Raised when a key is missing or wrong where one is needed."""

    status_code = 401
    code = "key_required"


class OriginRefused(AccessError):
    """Raised when a page of another site, or another host name, addresses the service."""

    code = "origin_refused"


@declared
class RateLimited(AccessError):
    """Raised when a key has used up its requests of this second."""

    status_code = 429
    code = "rate_limited"
    retryable = True
    words = "key {key_name!r} is over its limit; retry in {retry_after_s:g} s"

    key_name: str
    retry_after_s: float


class SourceError(FinstageError):
    """Raised when the upstream source fails.

    `cause` is a stable name of what is wrong; `text` says it without when it is tried again,
    which `retry_after_s` does where that is known.
    """

    status_code = 503
    code = "source_error"
    retryable = True
    words = "{text}[; tried again in {retry_after_s:.0f} s]"
    shown = {"cause": "cause", "text": "text", "retry_after_s": "retry_after_s"}
    cause: str = "unreachable"
    retry_after_s: float | None = None

    @property
    def text(self) -> str:
        """What is wrong, for people."""
        return str(self.args[0]) if self.args else "the source fails"


@declared
class SourceUnavailable(SourceError):
    """Raised when the source does not answer.

    `cause`: dns, refused, timeout, unreachable, failing (it answers that it cannot), unauthorized,
    or that of what made us leave it alone.
    """

    code = "source_unavailable"

    what: str
    cause: str = "unreachable"
    retry_after_s: float | None = None


@declared
class SourceLimited(SourceError):
    """Raised when the upstream, or our own budget for it, allows no request for a while.

    `cause`: limited where the upstream refused (429), busy where too many wait here.
    """

    code = "source_limited"

    upstream: str
    retry_after_s: float
    cause: str = "limited"

    @property
    def text(self) -> str:
        name = self.upstream.capitalize()
        if self.cause == "limited":
            return f"{name} refuses (429)"
        return f"too many questions to {name} wait already"


@declared
class SourceMalformed(SourceError):
    """Raised when an answer of the upstream is not what it should be; `kind` is a stable name."""

    code = "source_malformed"
    cause = "malformed"

    kind: str
    reason: str

    @property
    def text(self) -> str:
        return f"the source's answer makes no sense: {self.reason}"


class StoreError(FinstageError):
    """Raised when the store fails."""

    status_code = 503
    code = "store_error"
    retryable = True


class StoreUnavailable(StoreError):
    """Raised when the database does not answer, or lets nobody in."""

    code = "store_unavailable"


class StoreBusy(StoreError):
    """Raised when the database stayed locked, or broke deadlocks at our cost, too often."""

    code = "store_busy"


class StoreUnsure(StoreError):
    """Raised when a commit gave no answer: it is done or not, and only a look shows which."""

    code = "store_unsure"
    retryable = False


class StoreExhausted(StoreError):
    """Raised when no connection to the database came free in time."""

    code = "store_exhausted"


class StoreFull(StoreError):
    """Raised when the database cannot grow; somebody must make room."""

    code = "store_full"
    retryable = False


class StoreRefused(StoreError):
    """Raised when the database does not take a row as it is; trying again changes nothing."""

    status_code = 422
    code = "store_refused"
    retryable = False


@declared
class StoreVersion(StoreError):
    """Raised when the database belongs to a later Finstage than this one."""

    code = "store_version"
    retryable = False
    words = (
        "the store has version {found}, this Finstage knows up to {known}: run the later "
        "Finstage, or use another database"
    )

    found: str
    known: str


@declared
class ChunkFailed(StoreError):
    """Raised when a chunk of many rows was not written; those before it are, and stay.

    Rows are counted from 0; the same call again is safe.
    """

    code = "store_chunk_failed"
    words = (
        "rows {first_row} to {last_row} were not written, {committed} rows before them were: "
        "{reason}"
    )

    first_row: int
    last_row: int
    committed: int
    reason: str


class TaskError(FinstageError):
    """Raised for background work; its kinds say what is wrong with it."""

    status_code = 409
    code = "task_error"


@declared
class TaskUnknown(TaskError):
    """Raised when no task function has this name."""

    status_code = 404
    code = "task_unknown"
    words = "no task is called {name!r}[; nearest known: {nearest}][; there are {known}]"
    shown = {"nearest": "nearest", "known": "known"}

    name: str
    nearest: Sequence[str] = ()
    known: Sequence[str] = ()


@declared
class TaskIdUnknown(TaskError):
    """Raised when no task has this id, or what came of it is forgotten."""

    status_code = 404
    code = "task_id_unknown"
    words = "no task has the id {task_id!r}, or its result has expired"

    task_id: str


class TaskRejected(TaskError):
    """Raised when a function cannot be a task, or not be submitted so."""

    status_code = 422
    code = "task_rejected"


@declared
class TaskArgumentsInvalid(TaskError):
    """Raised when arguments are not those of the function; `problems` is (argument, reason)."""

    status_code = 422
    code = "task_arguments_invalid"

    name: str
    problems: Sequence[tuple[str, str]]

    @property
    def message(self) -> str:
        listed = "; ".join(f"{argument}: {reason}" for argument, reason in self.problems)
        return f"{self.name}: {listed}"

    @property
    def context(self) -> dict[str, Any]:
        return {"arguments": {argument: reason for argument, reason in self.problems}}


@declared
class TaskUnfinished(TaskError):
    """Raised when the result of a task is asked for that has none yet."""

    code = "task_unfinished"
    retryable = True
    words = "task {task_id} is {state}; its result comes when it has ended"
    shown = {"status": "state"}

    task_id: str
    state: str


@declared
class TaskFailed(TaskError):
    """Raised where the result of a task is asked for that failed; `error_code` is its error's."""

    code = "task_failed"
    words = "task {task_id} failed: {error}"
    shown = {"error_code": "error_code"}

    task_id: str
    error_code: str
    error: str


class TaskCancelled(TaskFailed):
    """Raised where the result of a task is asked for that was cancelled."""

    code = "task_cancelled"
    words = "task {task_id} was cancelled: {error}"


@declared
class TaskNotRequeued(TaskError):
    """Raised when a task is asked to begin anew that did not fail, or just began anew.

    `same`: the task that is the same work, by `unique_by`, and has not ended.
    """

    code = "task_not_requeued"

    task_id: str
    state: str
    ago_s: float | None = None
    same: str | None = None

    @property
    def message(self) -> str:
        if self.same is not None:
            return f"task {self.task_id} does not begin anew: task {self.same} is the same work"
        if self.ago_s is not None:
            return f"task {self.task_id} began anew {self.ago_s:.1f} s ago; ask again in a moment"
        return f"task {self.task_id} is {self.state}; only failed or cancelled ones begin anew"


class TaskNotStorable(TaskError):
    """Raised when arguments or a result cannot be written as JSON or Parquet."""

    status_code = 422
    code = "task_not_storable"


@declared
class TaskQueueFull(TaskError):
    """Raised when the queue holds as much as it may."""

    status_code = 429
    code = "task_queue_full"
    retryable = True
    words = "{limit} tasks wait already; retry in {retry_after_s:g} s"

    limit: int
    retry_after_s: float


@declared
class Retry(TaskError):
    """Raised by a task that wants another try, not before `after_s` seconds."""

    code = "task_retry"
    retryable = True
    words = "{reason}"

    reason: str
    after_s: float | None = None


class TaskQueueStopped(TaskError):
    """Raised when the queue takes nothing: it was stopped, or another service runs it."""

    status_code = 503
    code = "task_queue_stopped"
    retryable = True


class ActorError(FinstageError):
    """Raised when a part of the service itself fails."""

    status_code = 503
    code = "service_restarting"
    retryable = True


@declared
class ActorUnavailable(ActorError):
    """Raised when an actor did not come back within the time a caller waits."""

    words = "{name} is restarting; no answer within {waited_s:g} s, try again"

    name: str
    waited_s: float


class ActorSlow(ActorUnavailable):
    """Raised when an actor gave no answer in time, though nothing says that it has ended."""

    code = "service_busy"
    words = "{name} gives no answer within {waited_s:g} s, try again"


@declared
class EpochChanged(ActorError):
    """Raised when the hub restarted: offsets of the old epoch mean nothing, take a snapshot."""

    status_code = 409
    code = "epoch_changed"
    words = "epoch is {current}, not {asked}; take a snapshot"

    asked: str
    current: str


@declared
class OffsetGone(ActorError):
    """Raised when an offset has left the hub's history: take a snapshot."""

    status_code = 410
    code = "offset_gone"
    words = "offset {asked} has left the history, which starts at {oldest}"

    asked: int
    oldest: int


class StartFailed(FinstageError):
    """Raised when a start came to nothing, and all that it began has ended: one line, exit 1."""

    code = "start_failed"


class ConfigError(FinstageError):
    """Raised at start only, when a setting or the machine does not allow it: one line, exit 2."""

    code = "config"
