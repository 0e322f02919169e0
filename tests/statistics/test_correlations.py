"""Correlations against scipy, brute force and their own stated coverage."""

import itertools

import numpy as np
import pytest
from scipy import stats

from flatness.errors import NumericalError
from flatness.statistics.correlations import (
    MINIMUM_GROUPS,
    correlate,
    holm,
    jackknife_interval,
    mean_interval,
    permutation_p,
)

METHODS = {"kendall": stats.kendalltau, "pearson": stats.pearsonr, "spearman": stats.spearmanr}


def pair(n, slope, seed, ties=False):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    y = slope * x + rng.normal(size=n)
    return (np.round(x), np.round(y)) if ties else (x, y)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ties", [False, True])
def test_the_estimate_is_scipys(method, ties):
    x, y = pair(40, 0.5, 1, ties)
    found = correlate(x, y, method=method, resamples=200)
    assert found.estimate == pytest.approx(METHODS[method](x, y).statistic, abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_the_interval_is_the_jackknifes_on_fishers_z(method):
    x, y = pair(15, 0.7, 2)
    found = correlate(x, y, method=method, resamples=100)
    without = [METHODS[method](np.delete(x, i), np.delete(y, i)).statistic for i in range(15)]
    z = np.arctanh(without)
    error = np.sqrt(14 / 15 * ((z - z.mean()) ** 2).sum())
    centre, half = np.arctanh(found.estimate), stats.t.ppf(0.975, 14) * error
    assert [found.low, found.high] == pytest.approx(np.tanh([centre - half, centre + half]))
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(centre) / error, 14))


def test_the_p_value_says_whether_the_interval_holds_zero():
    for seed in range(40):
        x, y = pair(12, 0.6, seed)
        found = correlate(x, y, method="pearson", resamples=10)
        assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)


@pytest.mark.parametrize("method", METHODS)
def test_the_permutation_p_of_independent_models_is_that_of_all_orders(method):
    x, y = pair(6, 1.0, 3)
    found = correlate(x, y, method=method, resamples=9999)
    statistic = METHODS[method](x, y).statistic
    every = [METHODS[method](x, y[list(p)]).statistic for p in itertools.permutations(range(6))]
    high = np.mean(np.array(every) >= statistic - 1e-12)
    low = np.mean(np.array(every) <= statistic + 1e-12)
    # Three standard errors of twice a share of 9,999.
    assert found.p_permutation == pytest.approx(min(1.0, 2 * min(high, low)), abs=0.03)


def test_permutations_stay_within_groups():
    """What groups alone decide is no evidence within them, however close the agreement."""
    groups = np.repeat(np.arange(20), 5)
    rng = np.random.default_rng(0)
    shared = 5 * rng.normal(size=20)[groups]
    x, y = shared + rng.normal(size=(2, 100))
    assert correlate(x, y, method="pearson", resamples=400).p_permutation < 0.01
    assert correlate(x, y, method="pearson", groups=groups, resamples=400).p_permutation > 0.05
    seen = []
    permutation_p(
        lambda orders: seen.extend(orders) or orders[:, 0] * 1.0,
        np.array(["b", "a", "b", "c", "a"]), resamples=50, seed=0,
    )  # fmt: skip
    places = {tuple(order[[0, 2]]) for order in seen}
    assert places == {(0, 2), (2, 0)} and {order[3] for order in seen} == {3}


def test_at_a_ceiling_there_is_no_interval():
    """Three levels tie most ranks: ρ cannot exceed .943, and no seed changes it."""
    x, seed = np.tile([0.05, 0.1, 0.2], 20), np.repeat(np.arange(20), 3)
    y = -x + 1e-3 * np.random.default_rng(0).normal(size=60)
    found = correlate(x, y, method="spearman", groups=seed, resamples=100)
    assert found.estimate == pytest.approx(-0.9428, abs=1e-3)
    assert np.isnan([found.low, found.high, found.p_value]).all()


def test_perfect_order_and_constant_variables():
    x = np.arange(10.0)
    found = correlate(x, np.exp(x), method="kendall", resamples=500)
    assert found.estimate == pytest.approx(1.0) and np.isnan([found.low, found.high]).all()
    assert found.p_permutation < 0.01
    constant = correlate(x, np.ones(10), method="kendall", resamples=500)
    assert np.isnan(constant.estimate)
    assert constant.n == 10


def test_two_models_have_no_coefficient():
    found = correlate([1, 2], [1, 2], method="kendall")
    assert found.n == 2
    assert np.isnan(list(found.columns().values())).all()


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(NumericalError, match="not finite"):
        correlate([1, 2, np.nan], [1, 2, 3], method="kendall")


def test_no_end_of_an_interval_lies_beyond_one():
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.normal(size=(2, MINIMUM_GROUPS))
        found = correlate(x, y, method="pearson", resamples=50)
        assert -1 <= found.low <= found.estimate <= found.high <= 1


def test_the_mean_has_students_interval():
    values = np.array([0.2, 0.5, 0.9, 0.4])
    half = stats.t.ppf(0.95, 3) * values.std(ddof=1) / 2
    found = mean_interval(values, 0.9)
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half))
    assert found.p_value == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert np.isnan(mean_interval(values[:1], 0.9).low)
    assert np.isnan(mean_interval(np.ones(5), 0.9).low)


def test_groups_of_one_are_models_and_groups_may_differ_in_size():
    x, y = np.random.default_rng(0).normal(size=(2, 12))
    for method in ("kendall", "pearson", "spearman"):
        alone = correlate(x, y, method=method, resamples=100)
        assert correlate(x, y, method=method, groups=np.arange(12), resamples=100) == alone
        groups = [0] * 3 + [1] * 4 + list(range(2, 7))
        uneven = correlate(x, y, method=method, groups=groups, resamples=100)
        assert uneven.estimate == alone.estimate
        assert -1 <= uneven.low < uneven.high <= 1


def test_a_partial_correlation_is_of_residual_ranks():
    x, y, z = np.random.default_rng(5).normal(size=(3, 15))
    found = correlate(x, y, method="spearman", given=z, resamples=100)
    ab, az, bz = (stats.spearmanr(*pair)[0] for pair in ((x, y), (x, z), (y, z)))
    partial = (ab - az * bz) / np.sqrt((1 - az**2) * (1 - bz**2))
    assert found.estimate == pytest.approx(partial)
    assert np.isnan(correlate(x[:3], y[:3], method="spearman", given=z[:3]).estimate)


def test_too_few_groups_have_an_estimate_and_no_interval():
    x, y = np.random.default_rng(0).normal(size=(2, 12))
    few = correlate(x, y, method="pearson", groups=np.arange(12) % 4, resamples=100)
    enough = correlate(x, y, method="pearson", groups=np.arange(12) % 5, resamples=100)
    assert np.isnan([few.low, few.high]).all() and few.estimate == enough.estimate
    assert enough.low < enough.estimate < enough.high


def test_a_plain_statistic_may_leave_the_unit_interval():
    values = np.array([3.0, 5.0, 4.0, 6.0, 7.0, 5.5])
    found = jackknife_interval(
        lambda kept: values[kept].mean(), np.arange(6), confidence=0.95, scale="plain"
    )
    expected = mean_interval(values, 0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_holm_multiplies_by_what_is_left_and_never_decreases():
    assert holm([0.01, np.nan, 0.04, 0.03]) == pytest.approx(
        [0.03, np.nan, 0.06, 0.06], nan_ok=True
    )
    assert holm([0.9, 0.8]).tolist() == [1, 1]
    assert np.isnan(holm([np.nan])).all()
