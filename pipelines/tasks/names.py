"""What the arguments of built-in tasks may be, and what is raised where all symbols fail."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from infra.errors import FinstageError
from pipelines.jobs.base import JobFailed

Period = Literal["1d", "5d", "1mo", "3mo", "6mo", "1y", "2y", "5y", "10y", "ytd", "max"]
Symbol = Annotated[str, Field(min_length=1, max_length=32)]
Symbols = Annotated[list[Symbol], Field(min_length=1, max_length=500)]


def all_failed(what: str, errors: Iterable[FinstageError]) -> FinstageError:
    """Return what to raise: the first error that a retry may help, else JobFailed.

    `errors`, at least one, are those of the symbols; `what` was to be done with them.
    """
    found = list(errors)
    for error in found:
        if error.retryable:
            return error
    return JobFailed(f"{what}: {found[0].message}")
