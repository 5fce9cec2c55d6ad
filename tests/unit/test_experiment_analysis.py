"""Verdicts find what is there, and false ones are no more frequent than stated.

Simulations are seeded; each message gives the seed. Rates are held against what chance makes of
the stated rate in one of 10,000 runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from actors.monitor.experiments import ledger as ledger_module
from actors.monitor.experiments.analysis import analyse, horizon_reached
from actors.monitor.experiments.definition import Experiment, Variant
from actors.monitor.experiments.ledger import BINS, Ledger, Tally, bin_of, middle_ms
from actors.monitor.statistics import (
    chi_square,
    fisher,
    holm,
    mann_whitney,
    moments_of,
    moments_of_sums,
    student,
    two_proportions,
    welch,
)

SEED = 20260304
NOW_S = 1_772_600_000.0
RUNS = 1_000
CLIENTS, EACH = 40, 10  # identifiers in a variant, requests of each

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def experiment(*shares: float, **changes: Any) -> Experiment:
    """The first variant is the control."""
    made = Experiment(
        id="t",
        name="Test",
        description="",
        variants=tuple(
            Variant(f"v{index}", f"V{index}", "", share, is_control=index == 0)
            for index, share in enumerate(shares or (50.0, 50.0))
        ),
        traffic_split_method="random",
        target_endpoints=("/*",),
        created_at_s=0.0,
        updated_at_s=0.0,
        min_sample_size=400,
        status="running",
    )
    return replace(made, **changes)


STICKY = {"traffic_split_method": "user_id"}


def sums(ms: Floats, good: Bools, each: int = 0) -> dict[str, Any]:
    """What a tally gives of these requests, made at once; `each`: requests of one identifier."""
    places = np.clip(np.log(ms / 0.01) / math.log(1.01), 0, BINS - 1).astype(int)
    found, counts = np.unique(places, return_counts=True)
    return {
        "requests": len(ms),
        "successes": int(good.sum()),
        "exposures": len(ms),
        "sum_ms": float(ms.sum()),
        "sum_sq": float(ms @ ms),
        "bins": [[int(place), int(count)] for place, count in zip(found, counts, strict=True)],
        "units": units(ms, good, each) if each else {},
        "share": 1.0,
        "metrics": {},
        "metrics_dropped": 0,
    }


def units(ms: Floats, good: Bools, each: int) -> dict[str, list[float]]:
    totals, won = ms.reshape(-1, each).sum(1).tolist(), good.reshape(-1, each).sum(1).tolist()
    return {f"u{n}": [each, *both] for n, both in enumerate(zip(totals, won, strict=True))}


def ledger(*variants: tuple[Floats, Bools], each: int = 0) -> Ledger:
    made = Ledger(f"v{index}" for index in range(len(variants)))
    made.merge({f"v{index}": sums(*one, each) for index, one in enumerate(variants)})
    return made


def latencies(
    rng: np.random.Generator, *shape: int, factor: float = 1.0, sigma: float = 0.3
) -> Floats:
    return 50.0 * factor * rng.lognormal(0.0, sigma, shape)


def successes(rng: np.random.Generator, *shape: int, share: float = 0.95) -> Bools:
    return rng.random(shape) < share


def clients_ms(rng: np.random.Generator) -> Floats:
    """Requests of clients that are each slow or fast: correlated within a client."""
    own = rng.lognormal(0.0, 0.3, (CLIENTS, 1))
    return (50.0 * own * rng.lognormal(0.0, 0.2, (CLIENTS, EACH))).ravel()


def clients_good(rng: np.random.Generator) -> Bools:
    own = rng.beta(8.0, 2.0, (CLIENTS, 1))
    return (rng.random((CLIENTS, EACH)) < own).ravel()


def counted(*requests: int, good: Sequence[int] | None = None) -> Ledger:
    """Variants alike in all but the number of requests, and of successes where given."""
    rng = np.random.default_rng(SEED)
    won = good or requests
    return ledger(
        *((latencies(rng, n), np.arange(n) < k) for n, k in zip(requests, won, strict=True))
    )


def outcomes(*variants: tuple[int, int]) -> Ledger:
    """Variants of which only requests and successes matter."""
    made = Ledger(f"v{index}" for index in range(len(variants)))
    for index, (count, good) in enumerate(variants):
        same = sums(np.ones(1), np.ones(1, bool))
        same |= {"requests": count, "successes": good, "sum_ms": count, "sum_sq": count}
        made.merge({f"v{index}": same | {"bins": [[0, count]]}})
    return made


def significant(answer: dict[str, Any]) -> bool:
    assert answer["status"] == "decided"
    return any(one["status"] == "significant" for one in answer["comparisons"])


def most(rate: float, runs: int) -> int:
    return int(stats.binom.ppf(1 - 1e-4, runs, rate))


def least(rate: float, runs: int) -> int:
    return int(stats.binom.ppf(1e-4, runs, rate))


def of(answer: dict[str, Any], test: str, metric: str = "response_time") -> dict[str, Any]:
    (comparison,) = answer["comparisons"]
    (found,) = [
        one for one in comparison["p_values"] if (one["test"], one["metric"]) == (test, metric)
    ]
    return dict(found)


# -- what is there is found ------------------------------------------------------------------


def test_ten_percent_less_latency_is_found() -> None:
    rng = np.random.default_rng(SEED)
    control = latencies(rng, 1_000), successes(rng, 1_000)
    faster = latencies(rng, 1_000, factor=0.9), successes(rng, 1_000)

    answer = analyse(experiment(min_sample_size=1_000), ledger(control, faster), NOW_S)

    (found,) = answer["comparisons"]
    low, high = of(answer, "welch_t")["improvement_interval_percent"]
    assert (found["status"], found["direction"]) == ("significant", "better"), SEED
    assert low < 10.0 < high, SEED
    assert low < found["response_time_improvement_percent"] < high
    assert of(answer, "mann_whitney_u")["probability_faster"] > 0.55
    assert not of(answer, "two_proportion_z", "success_rate")["significant"], SEED
    assert answer["summary"]["best_variant"] == "v1"
    assert answer["summary"]["significant_improvements"] == 1
    assert "% faster on average" in answer["summary"]["recommendation"]


def test_a_worsening_is_told_as_such() -> None:
    rng = np.random.default_rng(SEED)
    control = latencies(rng, 1_000), successes(rng, 1_000)
    slower = latencies(rng, 1_000, factor=1.1), successes(rng, 1_000)

    answer = analyse(experiment(), ledger(control, slower), NOW_S)

    (found,) = answer["comparisons"]
    assert (found["status"], found["direction"]) == ("significant", "worse"), SEED
    assert found["response_time_improvement_percent"] < 0
    assert answer["summary"]["best_variant"] is None
    assert answer["summary"]["significant_improvements"] == 0
    assert answer["summary"]["recommendation"].startswith("Keep 'v0': 'v1' did worse")


def test_faster_but_failing_is_no_improvement() -> None:
    rng = np.random.default_rng(SEED)
    control = latencies(rng, 1_000), successes(rng, 1_000, share=0.99)
    other = latencies(rng, 1_000, factor=0.8), successes(rng, 1_000, share=0.9)

    answer = analyse(experiment(), ledger(control, other), NOW_S)

    assert answer["comparisons"][0]["direction"] == "mixed"
    assert answer["summary"]["best_variant"] is None
    assert answer["summary"]["recommendation"].startswith("Weigh 'v1'")


def test_more_success_is_found_and_told_in_points() -> None:
    answer = analyse(
        experiment(success_metrics=("success_rate",)),
        counted(1_000, 1_000, good=(900, 960)),
        NOW_S,
    )

    (found,) = answer["comparisons"]
    assert (found["direction"], answer["summary"]["best_variant"]) == ("better", "v1")
    assert found["success_rate_improvement"] == pytest.approx(6.0)
    assert [one["metric"] for one in found["p_values"]] == ["success_rate"]


def test_the_best_of_several_is_the_one_that_improves_most() -> None:
    rng = np.random.default_rng(SEED)
    arms = [(latencies(rng, 1_000, factor=by), successes(rng, 1_000)) for by in (1.0, 0.9, 0.7)]

    answer = analyse(experiment(33.34, 33.33, 33.33), ledger(*arms), NOW_S)

    assert [one["direction"] for one in answer["comparisons"]] == ["better", "better"], SEED
    assert answer["summary"]["best_variant"] == "v2"
    assert answer["summary"]["significant_improvements"] == 2
    assert answer["summary"]["total_variants"] == 3


def test_no_difference_is_told_as_none() -> None:
    rng = np.random.default_rng(SEED)
    arms = [(latencies(rng, 500), successes(rng, 500)) for _ in range(2)]

    answer = analyse(experiment(), ledger(*arms), NOW_S)

    assert answer["comparisons"][0]["status"] == "not_significant", SEED
    assert answer["comparisons"][0]["direction"] is None
    assert answer["summary"]["recommendation"].startswith("Keep 'v0'")


# -- false verdicts --------------------------------------------------------------------------


def test_false_verdicts_by_request_are_no_more_than_stated() -> None:
    rng = np.random.default_rng(SEED)
    test = experiment()

    false = sum(
        significant(
            analyse(
                test,
                ledger(*((latencies(rng, 400), successes(rng, 400)) for _ in range(2))),
                NOW_S,
            )
        )
        for _ in range(RUNS)
    )

    assert least(0.02, RUNS) <= false <= most(0.05, RUNS), (false, SEED)


def test_false_verdicts_by_client_are_no_more_than_stated() -> None:
    """And counting each request of these clients would give far more, so this can fail."""
    rng = np.random.default_rng(SEED)
    test, naive = experiment(**STICKY), experiment()
    false = false_by_request = 0

    for _ in range(RUNS):
        arms = [(clients_ms(rng), clients_good(rng)) for _ in range(2)]
        seen = ledger(*arms, each=EACH)
        false += significant(analyse(test, seen, NOW_S))
        false_by_request += significant(analyse(naive, seen, NOW_S))

    assert least(0.02, RUNS) <= false <= most(0.05, RUNS), (false, SEED)
    assert false_by_request > 5 * most(0.05, RUNS), (false_by_request, SEED)


def test_a_small_variant_with_skewed_clients_gives_no_more_false_verdicts() -> None:
    """And Welch's test alone would, so this can fail."""
    rng = np.random.default_rng(SEED)
    test = experiment(90.0, 10.0, **STICKY)
    false = by_welch = 0

    for _ in range(RUNS):
        arms = [
            (latencies(rng, n, sigma=1.5), successes(rng, n, share=0.99)) for n in (3_600, 400)
        ]
        answer = analyse(test, ledger(*arms, each=EACH), NOW_S)
        false += significant(answer)
        tests = answer["comparisons"][0]["p_values"]
        by_welch += min(holm([one.get("welch_p_value", one["p_value"]) for one in tests])) < 0.05

    assert false <= most(0.05, RUNS), (false, SEED)
    assert by_welch > most(0.05, RUNS), (by_welch, SEED)


def test_rare_failures_give_no_more_false_verdicts() -> None:
    """One failure is to be expected in the small variant; z alone would give more."""
    runs, confidence = 4_000, 0.98
    rng = np.random.default_rng(SEED)
    failed = rng.binomial([900, 100], 0.01, (runs, 2))
    test = experiment(
        90.0, 10.0, min_sample_size=100, success_metrics=("success_rate",),
        confidence_level=confidence,
    )  # fmt: skip
    false = by_z = 0

    for of_control, of_variant in failed.tolist():
        good = 900 - of_control, 100 - of_variant
        false += significant(analyse(test, outcomes((900, good[0]), (100, good[1])), NOW_S))
        by_z += two_proportions((good[0], 900), (good[1], 100), 0.95)[1] < 1 - confidence

    assert false <= most(1 - confidence, runs), (false, SEED)
    assert by_z > false, (by_z, SEED)


def test_three_variants_give_no_more_false_verdicts_than_two() -> None:
    runs = 500
    rng = np.random.default_rng(SEED)
    test = experiment(*[25.0] * 4)
    false = uncorrected = 0

    for _ in range(runs):
        arms = [(latencies(rng, 400), successes(rng, 400)) for _ in range(4)]
        answer = analyse(test, ledger(*arms), NOW_S)
        false += significant(answer)
        raw = [one["p_value"] for made in answer["comparisons"] for one in made["p_values"]]
        uncorrected += min(raw) < 0.05

    assert false <= most(0.05, runs), (false, SEED)
    assert uncorrected > 2 * most(0.05, runs), (uncorrected, SEED)


def test_looking_twenty_times_gives_no_more_false_verdicts() -> None:
    """Because the ledger is kept as of the horizon; to judge at each look would give more."""
    runs, looks, step = 500, 20, 50
    rng = np.random.default_rng(SEED)
    test = experiment(min_sample_size=400, success_metrics=("response_time",))
    ms = latencies(rng, runs, 2, looks * step)
    false = 0

    for run in ms.reshape(runs, 2, looks, step):
        growing, kept = Ledger(["v0", "v1"]), None
        verdicts = set()
        for look in range(looks):
            growing.merge({f"v{arm}": sums(run[arm, look], np.ones(step, bool)) for arm in (0, 1)})
            if kept is None and horizon_reached(test, growing):
                kept = growing.copy()
            if kept is not None and look in (7, looks - 1):
                verdicts.add(significant(analyse(test, kept, NOW_S + look)))
        (verdict,) = verdicts
        false += verdict

    assert false <= most(0.05, runs), (false, SEED)
    peeked = peeking(ms, np.arange(step, looks * step + 1, step))
    assert peeked > 2 * most(0.05, runs), (peeked, SEED)


def peeking(ms: Floats, sizes: NDArray[np.int64]) -> int:
    """In how many runs Welch's test is significant at any of these sizes."""
    means = ms.cumsum(2)[:, :, sizes - 1] / sizes
    variances = (np.square(ms).cumsum(2)[:, :, sizes - 1] / sizes - means**2) / (sizes - 1)
    t = (means[:, 1] - means[:, 0]) / np.sqrt(variances.sum(1))
    p_values = 2 * stats.t.sf(np.abs(t), 2 * sizes - 2)
    return int((p_values < 0.05).any(1).sum())


# -- one look --------------------------------------------------------------------------------


def test_before_the_horizon_it_says_what_is_missing() -> None:
    test = experiment(min_sample_size=500)

    answer = analyse(test, counted(500, 499), NOW_S)

    assert not horizon_reached(test, counted(500, 499))
    assert answer["status"] == "insufficient_data"
    assert answer["message"] == "too early for a verdict: variant 'v1' has 499 of 500 requests"
    assert [one["status"] for one in answer["comparisons"]] == ["insufficient_data"]
    assert answer["comparisons"][0]["p_values"] == []
    assert answer["summary"]["best_variant"] is None
    assert horizon_reached(test, counted(500, 500))


def test_requests_of_few_clients_are_too_little() -> None:
    rng = np.random.default_rng(SEED)
    test = experiment(**STICKY)
    seen = ledger(*((latencies(rng, 1_160), successes(rng, 1_160)) for _ in range(2)), each=40)

    answer = analyse(test, seen, NOW_S)

    assert not horizon_reached(test, seen)
    assert "variant 'v0' has 29 of 30 identifiers" in answer["message"]


def test_a_test_that_saw_nothing_is_answered_in_json() -> None:
    for changes in ({}, STICKY):
        answer = analyse(experiment(**changes), Ledger(["v0", "v1"]), NOW_S)

        assert json.loads(json.dumps(answer, allow_nan=False)) == answer
        assert answer["control_variant"]["avg_response_time"] is None


def test_a_test_that_ended_too_early_says_so() -> None:
    answer = analyse(experiment(ended_at_s=NOW_S, status="stopped"), counted(10, 10), NOW_S)

    assert answer["summary"]["recommendation"] == "It ended too early for a verdict."


def test_the_answer_says_how_and_at_what_sizes_it_was_taken() -> None:
    rng = np.random.default_rng(SEED)
    arms = [(clients_ms(rng), clients_good(rng)) for _ in range(2)]

    sticky = analyse(experiment(**STICKY), ledger(*arms, each=EACH), NOW_S)
    chance = analyse(experiment(), ledger(*arms), NOW_S)

    size = {"requests": 400, "identifiers": 40, "units_dropped": 0}
    assert sticky["taken_at"] == {"v0": size, "v1": size}
    assert (sticky["unit_of_analysis"], chance["unit_of_analysis"]) == ("identifier", "request")
    assert (sticky["method"], sticky["correction"]) == ("fixed horizon", "holm")
    assert sticky["analysis_time"].endswith("+00:00")
    assert json.loads(json.dumps(sticky, allow_nan=False)) == sticky


# -- the division of units -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requests", "mismatch"),
    [((5_400, 4_600), True), ((4_600, 5_400), True), ((5_050, 4_950), False)],
)
def test_units_that_do_not_fit_the_traffic_give_no_verdict(
    requests: tuple[int, int], mismatch: bool
) -> None:
    answer = analyse(experiment(), counted(*requests), NOW_S)

    assert answer["sample_ratio"]["mismatch"] is mismatch
    assert answer["status"] == ("sample_ratio_mismatch" if mismatch else "decided")
    assert bool(answer["comparisons"]) is not mismatch
    assert ("cannot be compared" in answer["message"]) is mismatch
    exact = stats.chisquare(requests).pvalue
    assert answer["sample_ratio"]["p_value"] == pytest.approx(exact)


def test_clients_and_not_their_requests_are_held_against_the_traffic() -> None:
    """One variant's clients ask twice as often, which is no fault of the division."""
    rng = np.random.default_rng(SEED)
    seen = Ledger(["v0", "v1"])
    for arm, each in (("v0", 10), ("v1", 20)):
        count = 200 * each
        seen.merge({arm: sums(latencies(rng, count), successes(rng, count), each)})

    answer = analyse(experiment(**STICKY), seen, NOW_S)

    assert answer["sample_ratio"]["observed"] == {"v0": 200, "v1": 200}
    assert answer["status"] == "decided"


def test_clients_beyond_the_bound_do_not_look_like_a_mismatch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger_module, "MAX_UNITS", 1_000)
    rng = np.random.default_rng(SEED)
    tally = Tally()
    for arm, count in (("v0", 8_000), ("v1", 2_000)):
        for number in range(count):
            tally.add(arm, f"{arm}-{number}", float(latencies(rng, 1)[0]), True)
    seen = Ledger(["v0", "v1"])
    seen.merge(tally.take())

    answer = analyse(experiment(80.0, 20.0, **STICKY), seen, NOW_S)

    kept = answer["taken_at"]
    assert answer["status"] == "decided", SEED
    assert kept["v0"]["units_dropped"] == pytest.approx(8_000 - kept["v0"]["identifiers"], rel=0.2)
    assert kept["v1"]["identifiers"] > answer["sample_ratio"]["observed"]["v1"]


def test_too_few_units_are_no_mismatch() -> None:
    assert chi_square([8, 0], [60.0, 40.0]) is None
    assert chi_square([40, 0], [60.0, 40.0]) == pytest.approx(
        stats.chisquare([40, 0], [24, 16]).pvalue
    )


# -- the same as known answers ---------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(400, 400), (30, 5_000), (200_000, 100_000)])
@pytest.mark.parametrize("factor", [1.0, 1.02, 1.5])
def test_welch_agrees_with_scipy(sizes: tuple[int, int], factor: float) -> None:
    rng = np.random.default_rng(SEED)
    a, b = latencies(rng, sizes[0]), latencies(rng, sizes[1], factor=factor)

    found = welch(moments_of(a), moments_of(b), 0.95)

    exact = stats.ttest_ind(b, a, equal_var=False)
    interval = exact.confidence_interval(0.95)
    pooled = stats.ttest_ind(b, a).pvalue
    assert student(moments_of(a), moments_of(b)) == pytest.approx(pooled, rel=1e-6, abs=1e-300)
    assert found.t == pytest.approx(exact.statistic)
    assert found.p_value == pytest.approx(exact.pvalue, rel=1e-6, abs=1e-300)
    assert found.interval == pytest.approx((interval.low, interval.high))


def test_moments_of_sums_are_those_of_the_values() -> None:
    values = latencies(np.random.default_rng(SEED), 5_000)

    found = moments_of_sums(5_000, float(values.sum()), float(values @ values))

    whole = moments_of(values)
    assert found.count == whole.count
    assert found.mean == pytest.approx(whole.mean)
    assert found.variance == pytest.approx(whole.variance)


def test_the_two_intervals_leave_out_no_change_together() -> None:
    rng = np.random.default_rng(SEED)
    left_out = 0

    for _ in range(300):
        a, b = latencies(rng, 60), latencies(rng, 90, factor=1.1)
        found = welch(moments_of(a), moments_of(b), 0.95)
        assert found.relative_interval is not None
        absolute = not found.interval[0] <= 0 <= found.interval[1]
        relative = not found.relative_interval[0] <= 0 <= found.relative_interval[1]
        assert absolute == relative == (found.p_value < 0.05), SEED
        left_out += absolute

    assert 50 < left_out < 250, SEED


def test_the_relative_interval_holds_the_true_change_as_often_as_stated() -> None:
    rng = np.random.default_rng(SEED)
    a, b = latencies(rng, RUNS, 100), latencies(rng, RUNS, 100, factor=0.8)
    held = 0

    for one, other in zip(a, b, strict=True):
        interval = welch(moments_of(one), moments_of(other), 0.9).relative_interval
        assert interval is not None
        held += interval[0] <= -0.2 <= interval[1]

    assert least(0.9, RUNS) <= held <= most(0.9, RUNS), (held, SEED)


def test_values_without_variance_differ_surely_or_not_at_all() -> None:
    ones, twos = moments_of(np.ones(50)), moments_of(np.full(50, 2.0))

    assert welch(ones, ones, 0.95).p_value == 1.0
    assert welch(ones, twos, 0.95).p_value == 0.0
    assert (student(ones, ones), student(ones, twos)) == (1.0, 0.0)
    assert welch(ones, twos, 0.95).relative_interval == pytest.approx((1.0, 1.0))


@pytest.mark.parametrize("factor", [1.0, 1.01, 1.3])
def test_u_of_binned_latencies_agrees_with_scipy(factor: float) -> None:
    rng = np.random.default_rng(SEED)
    raw = latencies(rng, 700), latencies(rng, 900, factor=factor)
    seen = ledger(*((ms, np.ones(len(ms), bool)) for ms in raw))
    expanded = [
        np.repeat([middle_ms(place) for place in seen[arm].bins], list(seen[arm].bins.values()))
        for arm in ("v0", "v1")
    ]

    answer = analyse(experiment(43.75, 56.25), seen, NOW_S)

    exact = stats.mannwhitneyu(expanded[1], expanded[0], method="asymptotic")
    found = of(answer, "mann_whitney_u")
    assert found["statistic"] == pytest.approx(exact.statistic)
    assert found["p_value"] == pytest.approx(exact.pvalue, rel=1e-9)


@pytest.mark.parametrize("decimals", [0, 3])
def test_u_of_clients_agrees_with_scipy(decimals: int) -> None:
    rng = np.random.default_rng(SEED)
    a, b = latencies(rng, 31).round(decimals), latencies(rng, 47, factor=1.1).round(decimals)

    u, p_value = mann_whitney((a, b), (np.ones(31), np.ones(47)))

    exact = stats.mannwhitneyu(b, a)
    assert u == exact.statistic
    assert p_value == pytest.approx(exact.pvalue, rel=1e-9)


def test_u_of_equal_values_says_nothing() -> None:
    same = np.array([5.0])

    assert mann_whitney((same, same), (np.array([40.0]), np.array([50.0]))) == (1_000.0, 1.0)


def test_proportions_agree_with_the_formula_and_with_newcombe() -> None:
    """Newcombe (1998), table II, method 10: 56/70 and 48/80 give 0.0524 to 0.3339."""
    z, p_value, interval = two_proportions((48, 80), (56, 70), 0.95)

    pooled = 104 / 150
    expected = (0.8 - 0.6) / math.sqrt(pooled * (1 - pooled) * (1 / 70 + 1 / 80))
    assert z == pytest.approx(expected)
    assert p_value == pytest.approx(2 * stats.norm.sf(expected))
    assert interval == pytest.approx((0.0524, 0.3339), abs=5e-5)
    # The square of z is the chi-square of the table without correction.
    table = stats.chi2_contingency([[56, 14], [48, 32]], correction=False)
    assert p_value == pytest.approx(table.pvalue)


@pytest.mark.parametrize(
    "table",
    [((890, 900), (95, 100)), ((0, 40), (3, 60)), ((10, 10), (10, 10)), ((9, 10), (0, 90))],
)
def test_rare_outcomes_agree_with_fisher(table: tuple[tuple[int, int], tuple[int, int]]) -> None:
    exact = stats.fisher_exact([[good, count - good] for good, count in table])

    assert fisher(*table) == pytest.approx(exact.pvalue, rel=1e-9)


def test_the_test_of_rare_failures_is_named() -> None:
    test = experiment(90.0, 10.0, min_sample_size=100)

    rare = analyse(test, outcomes((900, 895), (100, 99)), NOW_S)
    common = analyse(test, outcomes((900, 850), (100, 90)), NOW_S)

    assert of(rare, "fisher_exact", "success_rate")["p_value"] == pytest.approx(
        stats.fisher_exact([[895, 5], [99, 1]]).pvalue
    )
    assert 0 < of(common, "two_proportion_z", "success_rate")["p_value"] < 1


@pytest.mark.parametrize("good", [0, 500])
def test_proportions_without_variance_do_not_differ(good: int) -> None:
    z, p_value, (low, high) = two_proportions((good, 500), (good, 500), 0.95)

    assert (z, p_value) == (0.0, 1.0)
    assert low < 0.0 < high


def test_holm_agrees_with_a_known_example() -> None:
    """The four p-values in Holm's order: 4 x 0.005, 3 x 0.01, 2 x 0.03, and no less after it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_sums_made_at_once_are_those_of_a_tally() -> None:
    """So what the simulations feed is what requests would."""
    rng = np.random.default_rng(SEED)
    ms, good = clients_ms(rng), clients_good(rng)
    tally = Tally()
    for index, (one, won) in enumerate(zip(ms.tolist(), good.tolist(), strict=True)):
        tally.expose("v0")
        tally.add("v0", f"u{index // EACH}", one, won)

    counted_one_by_one, at_once = tally.take()["v0"], sums(ms, good, EACH)

    assert at_once.keys() == counted_one_by_one.keys()
    assert at_once["bins"] == counted_one_by_one["bins"]
    assert bin_of(0.01) == 0
    for name in ("requests", "successes", "exposures", "sum_ms", "sum_sq"):
        assert at_once[name] == pytest.approx(counted_one_by_one[name])
    for unit, one in at_once["units"].items():
        assert one == pytest.approx(counted_one_by_one["units"][unit])
