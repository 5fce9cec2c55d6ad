"""Every error that Finstage raises on purpose, in one tree.

Each class carries its HTTP status, a stable code for clients, and whether a retry can help.
Arguments are positional and all go to the base constructor: an exception with a keyword-only
argument pickles but does not unpickle, and these cross process borders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar


class FinstageError(Exception):
    """Base of every error raised on purpose; anything else is a bug."""

    status_code: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    code: ClassVar[str] = "internal"

    @property
    def message(self) -> str:
        """One sentence for the caller; never a path, never a traceback."""
        return str(self.args[0]) if self.args else type(self).__name__

    @property
    def context(self) -> dict[str, Any]:
        """Facts that help the caller mend the call, such as the allowed values."""
        return {}

    def __str__(self) -> str:
        return self.message


class RequestError(FinstageError):
    """Raised when the caller asked for something that cannot be."""

    status_code = 422
    code = "request_invalid"


class SymbolUnknown(RequestError):
    """Raised when neither the source nor an import knows the symbol."""

    status_code = 404
    code = "symbol_unknown"

    def __init__(self, symbol: str, nearest: Sequence[str] = ()) -> None:
        super().__init__(symbol, list(nearest))
        self.symbol = symbol
        self.nearest = list(nearest)

    @property
    def message(self) -> str:
        hint = f"; nearest known: {', '.join(self.nearest)}" if self.nearest else ""
        return f"symbol {self.symbol[:40]!r} is not known{hint}"

    @property
    def context(self) -> dict[str, Any]:
        return {"nearest": self.nearest}


class ParameterInvalid(RequestError):
    """Raised when a parameter's value is not one of those allowed.

    `location` is where the value came from, FastAPI's way: `("query", "period")`.
    """

    code = "parameter_invalid"

    def __init__(self, location: Sequence[str], value: object, allowed: Sequence[str]) -> None:
        super().__init__(tuple(location), value, list(allowed))
        self.location = tuple(location)
        self.value = value
        self.allowed = list(allowed)

    @property
    def message(self) -> str:
        return (
            f"{self.location[-1]} {str(self.value)[:40]!r} is not allowed; "
            f"use one of {', '.join(self.allowed)}"
        )

    @property
    def context(self) -> dict[str, Any]:
        return {"allowed": self.allowed}


class ExpressionInvalid(RequestError):
    """Raised when an expression cannot be read; `column` counts characters from 1."""

    code = "expression_invalid"

    def __init__(
        self,
        column: int,
        reason: str,
        text: str,
        location: Sequence[str] = ("body", "expression"),
    ) -> None:
        super().__init__(column, reason, text, tuple(location))
        self.location = tuple(location)
        self.column = column
        self.reason = reason
        self.text = text

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


class RangeInvalid(RequestError):
    """Raised when a value or a list is outside its bounds; the message names both."""

    code = "range_invalid"

    def __init__(self, location: Sequence[str], reason: str, limit: int | None = None) -> None:
        super().__init__(tuple(location), reason, limit)
        self.location = tuple(location)
        self.reason = reason
        self.limit = limit

    @property
    def message(self) -> str:
        return self.reason

    @property
    def context(self) -> dict[str, Any]:
        return {} if self.limit is None else {"limit": self.limit}


class ParameterUnknown(ParameterInvalid):
    """Raised when nothing reads a parameter, and its name is near to one that is read."""

    code = "parameter_unknown"

    @property
    def message(self) -> str:
        return f"there is no {self.location[-1]!r} here; {self.value!r} is probably meant"

    @property
    def context(self) -> dict[str, Any]:
        return {"nearest": self.value, "allowed": self.allowed}


class BodyInvalid(RangeInvalid):
    """Raised when a body is not read as it was sent."""

    code = "body_invalid"


class JobUnknown(RequestError):
    """Raised when no scheduled job has this name."""

    status_code = 404
    code = "job_unknown"

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(name, list(known))
        self.name = name
        self.known = list(known)

    @property
    def message(self) -> str:
        return f"no job is called {self.name[:40]!r}; there are {', '.join(self.known)}"

    @property
    def context(self) -> dict[str, Any]:
        return {"known": self.known}


class SignalUnknown(RequestError):
    """Raised when no kept signal has this number, or nothing is known of what became of it."""

    status_code = 404
    code = "signal_unknown"

    def __init__(self, signal_id: int) -> None:
        super().__init__(signal_id)
        self.signal_id = signal_id

    @property
    def message(self) -> str:
        return f"nothing is known yet of what became of signal {self.signal_id}"


class AlertRuleUnknown(RequestError):
    """Raised when no alert rule has this id."""

    status_code = 404
    code = "alert_rule_unknown"

    def __init__(self, rule_id: str) -> None:
        super().__init__(rule_id)
        self.rule_id = rule_id

    @property
    def message(self) -> str:
        return f"no alert rule has the id {self.rule_id[:40]!r}"


class MonitorUnknown(RequestError):
    """Raised when the monitor has no such thing: a rule, an alert, an A/B test, a reading."""

    status_code = 404
    code = "monitor_unknown"

    def __init__(self, kind: str, name: str = "") -> None:
        super().__init__(kind, name)
        self.kind = kind
        self.name = name

    @property
    def message(self) -> str:
        return f"there is no {self.kind}" + (f" {self.name[:80]!r}" if self.name else "")


class MonitorConflict(RequestError):
    """Raised when a thing of the monitor is not in a state for what is asked."""

    status_code = 409
    code = "monitor_conflict"


class TargetInvalid(RequestError):
    """Raised when nothing can be sent to a target; `shown` has no secret in it."""

    code = "target_invalid"

    def __init__(
        self, shown: str, reason: str, location: Sequence[str] = ("body", "targets")
    ) -> None:
        super().__init__(shown, reason, tuple(location))
        self.location = tuple(location)
        self.shown = shown
        self.reason = reason

    @property
    def message(self) -> str:
        return f"{self.shown} cannot be told: {self.reason}"


class JobRunning(RequestError):
    """Raised when a job is asked to run that runs already."""

    status_code = 409
    code = "job_running"
    retryable = True

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    @property
    def message(self) -> str:
        return f"{self.name} runs already; two of one job never run at once"


class BodyTooLarge(RequestError):
    """Raised when a request's body is longer than the setting allows."""

    status_code = 413
    code = "body_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(limit_bytes)
        self.limit_bytes = limit_bytes

    @property
    def message(self) -> str:
        return f"a body is at most {self.limit_bytes} bytes"


class ImportUnreadable(RequestError):
    """Raised when a file cannot be read as bars, or written as what its name says."""

    code = "import_unreadable"


class NotImported(RequestError):
    """Raised when there is no import of a symbol to delete."""

    status_code = 404
    code = "not_imported"

    def __init__(self, symbol: str, intervals: Sequence[str] = ()) -> None:
        super().__init__(symbol, intervals)
        self.symbol = symbol
        self.intervals = tuple(intervals)

    @property
    def message(self) -> str:
        return f"nothing is imported of {' '.join((self.symbol, *self.intervals))}"


class NotBuilt(RequestError):
    """Raised when a documented feature is not there in this installation."""

    status_code = 501
    code = "not_implemented"


class CacheUnknown(RequestError):
    """Raised when there is no cache of that name."""

    status_code = 404
    code = "cache_unknown"

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(name, list(known))
        self.name = name
        self.known = list(known)

    @property
    def message(self) -> str:
        return f"there is no cache {self.name[:64]!r}; there are {', '.join(self.known)}"

    @property
    def context(self) -> dict[str, Any]:
        return {"allowed": self.known}


class KeyUnusable(RequestError):
    """Raised when an argument of a cached function has no value to make a key of."""

    code = "cache_key_unusable"

    def __init__(self, function: str, argument: str, reason: str) -> None:
        super().__init__(function, argument, reason)
        self.function = function
        self.argument = argument
        self.reason = reason

    @property
    def message(self) -> str:
        return (
            f"{self.function} cannot be cached by its argument {self.argument!r}: it "
            f"{self.reason}; give key=, leave it out with ignore=({self.argument!r},), "
            "or give its class a method cache_key()"
        )


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


class RateLimited(AccessError):
    """Raised when a key has used up its requests of this second."""

    status_code = 429
    code = "rate_limited"
    retryable = True

    def __init__(self, key_name: str, retry_after_s: float) -> None:
        super().__init__(key_name, retry_after_s)
        self.key_name = key_name
        self.retry_after_s = retry_after_s

    @property
    def message(self) -> str:
        return f"key {self.key_name!r} is over its limit; retry in {self.retry_after_s:g} s"


class SourceError(FinstageError):
    """Raised when the upstream source fails.

    `cause` is a stable name of what is wrong; `text` says it without when it is tried again,
    which `retry_after_s` does where that is known.
    """

    status_code = 503
    code = "source_error"
    retryable = True
    cause: str = "unreachable"
    retry_after_s: float | None = None

    @property
    def text(self) -> str:
        """What is wrong, for people."""
        return str(self.args[0]) if self.args else "the source fails"

    @property
    def message(self) -> str:
        if self.retry_after_s is None:
            return self.text
        return f"{self.text}; tried again in {self.retry_after_s:.0f} s"

    @property
    def context(self) -> dict[str, Any]:
        return {"cause": self.cause, "text": self.text, "retry_after_s": self.retry_after_s}


class SourceUnavailable(SourceError):
    """Raised when the source does not answer.

    `cause`: dns, refused, timeout, unreachable, failing (it answers that it cannot), unauthorized,
    or that of what made us leave it alone.
    """

    code = "source_unavailable"

    def __init__(
        self, text: str, cause: str = "unreachable", retry_after_s: float | None = None
    ) -> None:
        super().__init__(text, cause, retry_after_s)
        self.cause = cause
        self.retry_after_s = retry_after_s


class SourceLimited(SourceError):
    """Raised when the upstream, or our own budget for it, allows no request for a while.

    `cause`: limited where the upstream refused (429), busy where too many wait here.
    """

    code = "source_limited"

    def __init__(self, upstream: str, retry_after_s: float, cause: str = "limited") -> None:
        super().__init__(upstream, retry_after_s, cause)
        self.upstream = upstream
        self.retry_after_s: float = retry_after_s
        self.cause = cause

    @property
    def text(self) -> str:
        name = self.upstream.capitalize()
        if self.cause == "limited":
            return f"{name} refuses (429)"
        return f"too many questions to {name} wait already"


class SourceMalformed(SourceError):
    """Raised when an answer of the upstream is not what it should be; `kind` is a stable name."""

    code = "source_malformed"
    cause = "malformed"

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind = kind
        self.reason = reason

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


class StoreVersion(StoreError):
    """Raised when the database belongs to a later Finstage than this one."""

    code = "store_version"
    retryable = False

    def __init__(self, found: str, known: str) -> None:
        super().__init__(found, known)
        self.found = found
        self.known = known

    @property
    def message(self) -> str:
        return (
            f"the store has version {self.found}, this Finstage knows up to {self.known}: "
            "run the later Finstage, or use another database"
        )


class ChunkFailed(StoreError):
    """Raised when a chunk of many rows was not written; those before it are, and stay.

    Rows are counted from 0; the same call again is safe.
    """

    code = "store_chunk_failed"

    def __init__(self, first_row: int, last_row: int, committed: int, reason: str) -> None:
        super().__init__(first_row, last_row, committed, reason)
        self.first_row = first_row
        self.last_row = last_row
        self.committed = committed
        self.reason = reason

    @property
    def message(self) -> str:
        return (
            f"rows {self.first_row} to {self.last_row} were not written, "
            f"{self.committed} rows before them were: {self.reason}"
        )


class TaskError(FinstageError):
    """Raised for background work; its kinds say what is wrong with it."""

    status_code = 409
    code = "task_error"


class TaskUnknown(TaskError):
    """Raised when no task function has this name."""

    status_code = 404
    code = "task_unknown"

    def __init__(self, name: str, nearest: Sequence[str] = (), known: Sequence[str] = ()) -> None:
        super().__init__(name, list(nearest), list(known))
        self.name = name
        self.nearest = list(nearest)
        self.known = list(known)

    @property
    def message(self) -> str:
        hint = f"; nearest known: {', '.join(self.nearest)}" if self.nearest else ""
        listed = f"; there are {', '.join(self.known)}" if self.known else ""
        return f"no task is called {self.name[:60]!r}{hint}{listed}"

    @property
    def context(self) -> dict[str, Any]:
        return {"nearest": self.nearest, "known": self.known}


class TaskIdUnknown(TaskError):
    """Raised when no task has this id, or what came of it is forgotten."""

    status_code = 404
    code = "task_id_unknown"

    def __init__(self, task_id: str) -> None:
        super().__init__(task_id)
        self.task_id = task_id

    @property
    def message(self) -> str:
        return f"no task has the id {self.task_id[:40]!r}, or its result has expired"


class TaskRejected(TaskError):
    """Raised when a function cannot be a task, or not be submitted so."""

    status_code = 422
    code = "task_rejected"


class TaskArgumentsInvalid(TaskError):
    """Raised when arguments are not those of the function; `problems` is (argument, reason)."""

    status_code = 422
    code = "task_arguments_invalid"

    def __init__(self, name: str, problems: Sequence[tuple[str, str]]) -> None:
        super().__init__(name, [tuple(problem) for problem in problems])
        self.name = name
        self.problems = [tuple(problem) for problem in problems]

    @property
    def message(self) -> str:
        listed = "; ".join(f"{argument}: {reason}" for argument, reason in self.problems)
        return f"{self.name}: {listed}"

    @property
    def context(self) -> dict[str, Any]:
        return {"arguments": {argument: reason for argument, reason in self.problems}}


class TaskUnfinished(TaskError):
    """Raised when the result of a task is asked for that has none yet."""

    code = "task_unfinished"
    retryable = True

    def __init__(self, task_id: str, state: str) -> None:
        super().__init__(task_id, state)
        self.task_id = task_id
        self.state = state

    @property
    def message(self) -> str:
        return f"task {self.task_id} is {self.state}; its result comes when it has ended"

    @property
    def context(self) -> dict[str, Any]:
        return {"status": self.state}


class TaskFailed(TaskError):
    """Raised where the result of a task is asked for that failed; `error_code` is its error's."""

    code = "task_failed"

    def __init__(self, task_id: str, error_code: str, error: str) -> None:
        super().__init__(task_id, error_code, error)
        self.task_id = task_id
        self.error_code = error_code
        self.error = error

    @property
    def message(self) -> str:
        return f"task {self.task_id} failed: {self.error}"

    @property
    def context(self) -> dict[str, Any]:
        return {"error_code": self.error_code}


class TaskCancelled(TaskFailed):
    """Raised where the result of a task is asked for that was cancelled."""

    code = "task_cancelled"

    @property
    def message(self) -> str:
        return f"task {self.task_id} was cancelled: {self.error}"


class TaskNotRequeued(TaskError):
    """Raised when a task is asked to begin anew that did not fail, or just began anew.

    `same`: the task that is the same work, by `unique_by`, and has not ended.
    """

    code = "task_not_requeued"

    def __init__(
        self, task_id: str, state: str, ago_s: float | None = None, same: str | None = None
    ) -> None:
        super().__init__(task_id, state, ago_s, same)
        self.task_id = task_id
        self.state = state
        self.ago_s = ago_s
        self.same = same

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


class TaskQueueFull(TaskError):
    """Raised when the queue holds as much as it may."""

    status_code = 429
    code = "task_queue_full"
    retryable = True

    def __init__(self, limit: int, retry_after_s: float) -> None:
        super().__init__(limit, retry_after_s)
        self.limit = limit
        self.retry_after_s = retry_after_s

    @property
    def message(self) -> str:
        return f"{self.limit} tasks wait already; retry in {self.retry_after_s:g} s"


class Retry(TaskError):
    """Raised by a task that wants another try, not before `after_s` seconds."""

    code = "task_retry"
    retryable = True

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason, after_s)
        self.after_s = after_s


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


class ActorUnavailable(ActorError):
    """Raised when an actor did not come back within the time a caller waits."""

    def __init__(self, name: str, waited_s: float) -> None:
        super().__init__(name, waited_s)
        self.name = name
        self.waited_s = waited_s

    @property
    def message(self) -> str:
        return f"{self.name} is restarting; no answer within {self.waited_s:g} s, try again"


class ActorSlow(ActorUnavailable):
    """Raised when an actor gave no answer in time, though nothing says that it has ended."""

    code = "service_busy"

    @property
    def message(self) -> str:
        return f"{self.name} gives no answer within {self.waited_s:g} s, try again"


class EpochChanged(ActorError):
    """Raised when the hub restarted: offsets of the old epoch mean nothing, take a snapshot."""

    status_code = 409
    code = "epoch_changed"

    def __init__(self, asked: str, current: str) -> None:
        super().__init__(asked, current)
        self.asked = asked
        self.current = current

    @property
    def message(self) -> str:
        return f"epoch is {self.current}, not {self.asked}; take a snapshot"


class OffsetGone(ActorError):
    """Raised when an offset has left the hub's history: take a snapshot."""

    status_code = 410
    code = "offset_gone"

    def __init__(self, asked: int, oldest: int) -> None:
        super().__init__(asked, oldest)
        self.asked = asked
        self.oldest = oldest

    @property
    def message(self) -> str:
        return f"offset {self.asked} has left the history, which starts at {self.oldest}"


class StartFailed(FinstageError):
    """Raised when a start came to nothing, and all that it began has ended: one line, exit 1."""

    code = "start_failed"


class ConfigError(FinstageError):
    """Raised at start only, when a setting or the machine does not allow it: one line, exit 2."""

    code = "config"
