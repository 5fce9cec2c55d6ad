"""The benchmarks run, in tiny sizes, on a service that runs; their numbers mean nothing."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import BENCHMARKS
from benchmarks.load import has_wrk
from benchmarks.service import TINY, Bench, Target


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmark_measures_something(name: str, service: Target) -> None:
    if name in ("hot_get", "operations") and not has_wrk():
        pytest.skip("wrk is not installed")

    report = BENCHMARKS[name](Bench(TINY, lambda _: None, service))

    assert report.samples
    assert report.tables
    assert all(table.rows for table in report.tables)
