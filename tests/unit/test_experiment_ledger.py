"""Sums of many processes are those of one, bounded, and the same after JSON."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import numpy as np
import pytest

from actors.monitor.experiments import ledger as module
from actors.monitor.experiments.ledger import BINS, Ledger, Tally, bin_of, middle_ms

SEED = 20260304


def requests(count: int, seed: int = SEED) -> list[tuple[str, str, float, bool]]:
    rng = np.random.default_rng(seed)
    return [
        (f"v{rng.integers(2)}", f"{rng.integers(40):016x}", float(ms), bool(rng.random() < 0.9))
        for ms in rng.lognormal(3.0, 1.0, count)
    ]


def taken(rows: list[tuple[str, str, float, bool]]) -> dict[str, Any]:
    tally = Tally()
    for row in rows:
        tally.expose(row[0])
        tally.add(*row)
    return tally.take()


def ledger_of(*tallies: dict[str, Any]) -> Ledger:
    made = Ledger(["v0", "v1"])
    for tally in tallies:
        made.merge(tally)
    return made


def rounded(ledger: Ledger) -> Any:
    """The ledger but for the last digits, in which sums differ by their order."""
    body = {
        name: sums | {"units": dict(sorted(sums["units"].items()))}
        for name, sums in ledger.as_dict().items()
    }
    return json.loads(json.dumps(body), parse_float=lambda text: float(f"{float(text):.9g}"))


def test_processes_together_count_what_one_would() -> None:
    rows = requests(3_000)

    apart = ledger_of(taken(rows[:700]), taken(rows[700:710]), taken(rows[710:]))

    assert rounded(apart) == rounded(ledger_of(taken(rows)))
    assert sum(apart[arm].requests for arm in ("v0", "v1")) == 3_000


def test_a_tally_begins_again_when_taken() -> None:
    tally = Tally()
    tally.add("v0", "", 1.0, True)

    assert tally.take()["v0"]["requests"] == 1
    assert tally.take() == {}


def test_what_is_taken_crosses_processes_and_json() -> None:
    tally = taken(requests(500))

    assert json.loads(json.dumps(tally)) == tally
    assert pickle.loads(pickle.dumps(tally)) == tally


def test_a_ledger_comes_back_from_json_as_it_was() -> None:
    ledger = ledger_of(taken(requests(500)))

    again = Ledger.from_dict(json.loads(json.dumps(ledger.as_dict())))

    assert again.as_dict() == ledger.as_dict()
    assert again.statistics() == ledger.statistics()


def test_a_copy_no_longer_changes() -> None:
    ledger = ledger_of(taken(requests(500)))
    frozen = ledger.copy()
    before = json.dumps(frozen.as_dict())

    ledger.merge(taken(requests(500, SEED + 1)))

    assert json.dumps(frozen.as_dict()) == before
    assert ledger["v0"].requests > frozen["v0"].requests


def test_statistics_are_those_of_numpy() -> None:
    rows = [row for row in requests(5_000) if row[0] == "v0"]
    ms = np.array([row[2] for row in rows])
    good = np.mean([row[3] for row in rows]) * 100

    found = ledger_of(taken(rows)).statistics()["v0"]

    assert found["sample_size"] == found["exposures"] == len(rows)
    assert found["identifiers"] == 40
    assert found["avg_response_time"] == pytest.approx(ms.mean())
    assert found["success_rate"] == pytest.approx(good)
    assert found["error_rate"] == pytest.approx(100 - good)
    for name, share in (("median_response_time", 0.5), ("p95_response_time", 0.95)):
        exact = float(np.quantile(ms, share, method="inverted_cdf"))
        assert found[name] == pytest.approx(exact, rel=0.005)
    assert found["conversion_rate"] is None


def test_sums_of_squares_give_the_variance() -> None:
    ms = [row[2] for row in requests(2_000)]

    sums = ledger_of(taken([("v0", "", one, True) for one in ms]))["v0"]

    variance = (sums.sum_sq - sums.sum_ms**2 / sums.requests) / (sums.requests - 1)
    assert variance == pytest.approx(np.var(ms, ddof=1))


def test_nothing_seen_is_none_and_not_zero() -> None:
    found = Ledger(["v0", "v1"]).statistics()["v1"]

    assert found["sample_size"] == 0
    for name in ("success_rate", "error_rate", "avg_response_time", "median_response_time"):
        assert found[name] is None


def test_bins_are_one_percent_wide() -> None:
    times = np.geomspace(0.0101, 599_000.0, 20_000)

    off = [abs(middle_ms(bin_of(float(ms))) / ms - 1) for ms in times]

    assert max(off) < 0.005
    assert [bin_of(ms) for ms in (0.0, 0.001, 0.01)] == [0, 0, 0]
    assert bin_of(600_000.0) == bin_of(1e12) == BINS - 1
    assert BINS < 2_000


@pytest.mark.parametrize("ms", [-0.001, math.nan, math.inf])
def test_a_time_that_cannot_be_is_refused_and_not_counted(ms: float) -> None:
    tally = Tally()

    with pytest.raises(ValueError, match="response time"):
        tally.add("v0", "", ms, True)

    assert tally.take() == {}


def test_a_variant_that_is_not_in_the_test_is_refused_whole() -> None:
    ledger = Ledger(["v0", "v1"])

    with pytest.raises(ValueError, match="no variant 'v2'"):
        ledger.merge(taken([("v0", "", 1.0, True), ("v2", "", 1.0, True)]))

    assert ledger["v0"].requests == 0


def test_own_metrics_are_averaged_over_those_who_gave_them() -> None:
    tally, other = Tally(), Tally()
    tally.add("v0", "", 1.0, True, {"rows": 4.0})
    tally.add("v0", "", 1.0, True)
    other.add("v0", "", 1.0, True, {"rows": 8.0, "pages": 1.0})

    found = ledger_of(tally.take(), other.take()).statistics()["v0"]

    assert found["custom_metrics"] == {"avg_pages": 1.0, "avg_rows": 6.0}


def test_names_of_metrics_are_bounded_and_the_rest_is_told() -> None:
    tallies = []
    for process in range(3):
        tally = Tally()
        for number in range(15):
            tally.add("v0", "", 1.0, True, {f"m{process}-{number}": 1.0})
        tallies.append(tally.take())

    found = ledger_of(*tallies).statistics()["v0"]

    assert len(found["custom_metrics"]) == 20
    assert found["metrics_dropped"] == 25


def test_a_metric_that_is_no_number_is_refused_and_nothing_counted() -> None:
    tally = Tally()

    with pytest.raises(ValueError, match="'rows' is nan"):
        tally.add("v0", "", 1.0, True, {"pages": 1.0, "rows": math.nan})

    assert tally.take() == {}


def units(first: int, last: int) -> list[tuple[str, str, float, bool]]:
    return [("v0", f"{number:016x}", 10.0, True) for number in range(first, last)]


def test_units_are_bounded_and_those_kept_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNITS", 1_000)
    visits = 3

    ledger = ledger_of(*(taken(units(0, 9_000)) for _ in range(visits)))
    sums = ledger["v0"]

    assert 300 < len(sums.units) <= 1_000
    assert {tuple(one) for one in sums.units.values()} == {(visits, visits * 10.0, visits)}
    assert sums.requests == 27_000
    assert sums.units_dropped + len(sums.units) == pytest.approx(9_000, rel=0.15)


def test_a_unit_dropped_once_never_comes_back_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNITS", 1_000)
    ledger = ledger_of(taken(units(0, 1_500)))
    kept = set(ledger["v0"].units)

    ledger.merge(taken(units(0, 900)))

    assert set(ledger["v0"].units) == kept
    assert 0 < len(kept) < 1_000


def test_the_sample_favours_neither_early_nor_late_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNITS", 1_000)

    sums = ledger_of(taken(units(0, 4_000)), taken(units(4_000, 8_000)))["v0"]

    early = sum(int(unit, 16) < 4_000 for unit in sums.units)
    assert abs(early / len(sums.units) - 0.5) < 0.08


def test_any_part_of_the_sample_can_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNITS", 1_000)
    whole = ledger_of(taken(units(0, 900)))["v0"]
    thinned = ledger_of(taken(units(0, 900)), taken(units(900, 6_000)))["v0"]

    assert thinned.share < whole.share == 1.0
    expected = sum(int(unit, 16) < 900 for unit in thinned.units)
    assert whole.units_within(thinned.share) == expected
