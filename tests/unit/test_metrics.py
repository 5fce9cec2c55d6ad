"""Metrics of all processes as one: counters summed, gauges apart, the ended not forgotten."""

from __future__ import annotations

from infra.metrics import Families, MetricsTable, ProcessReport


def counts(value: float) -> Families:
    return {"jobs": ("counter", "Jobs.", [("jobs_total", (("kind", "a"),), value)])}


def gauge(process: str, value: float) -> Families:
    return {"memory": ("gauge", "Memory.", [("memory", (("process", process),), value)])}


def test_counters_are_summed_and_gauges_stand_apart() -> None:
    table = MetricsTable()
    table.put(ProcessReport("a-1", counts(2) | gauge("a-1", 10)), 0.0)
    table.put(ProcessReport("b-2", counts(3) | gauge("b-2", 20)), 0.0)

    text = table.render().decode()

    assert 'jobs_total{kind="a"} 5.0' in text
    assert 'memory{process="a-1"} 10.0' in text
    assert 'memory{process="b-2"} 20.0' in text


def test_a_newer_report_takes_the_place_of_the_older() -> None:
    table = MetricsTable()
    table.put(ProcessReport("a-1", counts(2)), 0.0)
    table.put(ProcessReport("a-1", counts(7)), 1.0)

    assert 'jobs_total{kind="a"} 7.0' in table.render().decode()


def test_an_ended_process_leaves_its_counts_and_takes_its_gauges() -> None:
    table = MetricsTable()
    table.put(ProcessReport("a-1", counts(2) | gauge("a-1", 10)), 0.0)
    table.put(ProcessReport("a-9", counts(1)), 100.0)
    table.put(ProcessReport("a-9", counts(4)), 200.0)

    text = table.render().decode()

    assert 'jobs_total{kind="a"} 6.0' in text
    assert "memory{" not in text
    assert table.processes == ("a-9",)


def test_a_process_that_was_busy_and_reports_again_counts_once() -> None:
    table = MetricsTable()
    counted: Families = {"c": ("counter", "", [("c_total", (), 5.0)])}
    table.put(ProcessReport("slow-1", counted), 0.0)
    table.put(ProcessReport("other-2", {}), 20.0)
    assert table.families()["c"][2] == [("c_total", (), 5.0)]

    table.put(ProcessReport("slow-1", counted), 21.0)

    assert table.families()["c"][2] == [("c_total", (), 5.0)]
    table.put(ProcessReport("other-2", {}), 40.0)
    table.put(ProcessReport("other-2", {}), 2_000.0)
    assert table.families()["c"][2] == [("c_total", (), 5.0)]
