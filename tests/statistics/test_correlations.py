"""Correlations against scipy, brute force and their own stated coverage."""

import itertools

import numpy as np
import pytest
from scipy import stats

from flatness.errors import NumericalError
from flatness.statistics.correlations import (
    MINIMUM_GROUPS,
    bootstrap_interval,
    correlate,
    mean_interval,
)

METHODS = {"kendall": stats.kendalltau, "pearson": stats.pearsonr, "spearman": stats.spearmanr}


def pair(n, slope, seed, ties=False):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    y = slope * x + rng.normal(size=n)
    return (np.round(x), np.round(y)) if ties else (x, y)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ties", [False, True])
def test_estimate_and_asymptotic_p_are_scipys(method, ties):
    x, y = pair(40, 0.5, 1, ties)
    found = correlate(x, y, method=method, resamples=200)
    expected = METHODS[method](x, y)
    assert found.estimate == pytest.approx(expected.statistic, abs=1e-12)
    assert found.p_value == pytest.approx(expected.pvalue, abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ties", [False, True])
def test_interval_equals_resampling_with_scipys_coefficient(method, ties):
    x, y = pair(15, 0.7, 2, ties)
    found = correlate(x, y, method=method, resamples=300, seed=5)
    rows = np.random.default_rng(5).integers(0, 15, (300, 15))
    values = [METHODS[method](x[row], y[row]).statistic for row in rows]
    assert [found.low, found.high] == pytest.approx(np.nanquantile(values, [0.025, 0.975]))


@pytest.mark.parametrize("method", METHODS)
def test_permutation_p_is_exact_for_few_models(method):
    x, y = pair(6, 1.0, 3)
    found = correlate(x, y, method=method, resamples=9999)
    statistic = METHODS[method](x, y).statistic
    every = [METHODS[method](x, y[list(p)]).statistic for p in itertools.permutations(range(6))]
    high = np.mean(np.array(every) >= statistic - 1e-12)
    low = np.mean(np.array(every) <= statistic + 1e-12)
    assert found.p_permutation == pytest.approx(min(1.0, 2 * min(high, low)))


def test_intervals_of_tau_cover_the_truth_about_as_often_as_stated():
    """For a Gaussian pair τ = (2/π) asin r, so coverage can be counted."""
    r = 0.4
    truth = 2 / np.pi * np.arcsin(r)
    covered = 0
    for seed in range(300):
        x, noise = np.random.default_rng(seed).normal(size=(2, 50))
        y = r * x + np.sqrt(1 - r**2) * noise
        found = correlate(x, y, method="kendall", resamples=400)
        covered += found.low <= truth <= found.high
    # Binomial standard error at 95 % and n = 300 is 1.3 points.
    assert 0.91 <= covered / 300 <= 0.99


def test_perfect_order_and_constant_variables():
    x = np.arange(10.0)
    found = correlate(x, np.exp(x), method="kendall", resamples=500)
    assert [found.estimate, found.low, found.high] == pytest.approx([1.0, 1.0, 1.0])
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
    for method in ("pearson", "spearman"):
        for _ in range(20):
            x, y = rng.normal(size=(2, MINIMUM_GROUPS))
            found = correlate(x, y, method=method, resamples=50)
            assert -1 <= found.low <= found.high <= 1


def test_the_mean_has_students_interval():
    values = np.array([0.2, 0.5, 0.9, 0.4])
    half = stats.t.ppf(0.95, 3) * values.std(ddof=1) / 2
    assert mean_interval(values, 0.9) == pytest.approx((0.5 - half, 0.5 + half))
    assert np.isnan(mean_interval(values[:1], 0.9)).all()


def test_models_of_a_group_are_drawn_together():
    """Two quantities that groups alone decide, independently: r is as uncertain as over groups."""
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(20), 5)
    covered = {"groups": 0, "models": 0}
    for _ in range(100):
        x, y = rng.normal(size=(2, 20))[:, groups] + 0.1 * rng.normal(size=(2, 100))
        for name, given in (("groups", groups), ("models", None)):
            found = correlate(x, y, method="pearson", groups=given, resamples=200)
            covered[name] += found.low <= 0 <= found.high
    assert covered["groups"] >= 87
    assert covered["models"] <= 75


def test_groups_of_one_are_models_and_groups_may_differ_in_size():
    x, y = np.random.default_rng(0).normal(size=(2, 12))
    for method in ("kendall", "pearson", "spearman"):
        alone = correlate(x, y, method=method, resamples=100)
        assert correlate(x, y, method=method, groups=np.arange(12), resamples=100) == alone
        groups = [0] * 3 + [1] * 4 + list(range(2, 7))
        uneven = correlate(x, y, method=method, groups=groups, resamples=100)
        assert uneven.estimate == alone.estimate
        assert -1 <= uneven.low < uneven.high <= 1


def test_a_drawn_group_brings_each_of_its_models_once():
    seen = []
    bootstrap_interval(
        lambda models: seen.extend(models) or models.sum(1) * 1.0,
        np.array(["b", "a", "b", "c", "d", "e"]),
        resamples=50, confidence=0.9, seed=0,
    )  # fmt: skip
    groups = [[0, 2], [1], [3], [4], [5]]
    for models in seen:
        counts = np.bincount(models, minlength=6)
        assert all(len(set(counts[group])) == 1 for group in groups)
        assert sum(counts[group[0]] for group in groups) == 5


def test_a_partial_correlation_is_of_residual_ranks_with_one_degree_of_freedom_less():
    x, y, z = np.random.default_rng(5).normal(size=(3, 15))
    found = correlate(x, y, method="spearman", given=z, resamples=100)
    ab, az, bz = (stats.spearmanr(*pair)[0] for pair in ((x, y), (x, z), (y, z)))
    partial = (ab - az * bz) / np.sqrt((1 - az**2) * (1 - bz**2))
    assert found.estimate == pytest.approx(partial)
    t = partial * np.sqrt(12 / (1 - partial**2))
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(t), 12))
    assert np.isnan(correlate(x[:3], y[:3], method="spearman", given=z[:3]).estimate)


def test_too_few_groups_have_an_estimate_and_no_interval():
    x, y = np.random.default_rng(0).normal(size=(2, 12))
    few = correlate(x, y, method="pearson", groups=np.arange(12) % 4, resamples=100)
    enough = correlate(x, y, method="pearson", groups=np.arange(12) % 5, resamples=100)
    assert np.isnan([few.low, few.high]).all() and few.estimate == enough.estimate
    assert enough.low < enough.estimate < enough.high
