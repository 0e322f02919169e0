"""The published scatters as numbers, and the published τ's own error."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from flatness.studies.epfl.published import (
    PUBLISHED,
    interval_error,
    mean_and_spread,
    printed,
    published_interval,
    reading_error,
    scatter,
    source_values,
)
from studies.epfl.made_up_pool import STATISTICS


@pytest.mark.parametrize("pool", list(PUBLISHED))
def test_the_dots_have_the_published_tau_but_for_what_reading_them_does(pool):
    dots = scatter(pool)
    assert len(dots) == pytest.approx(50, abs=5)
    found = stats.kendalltau(dots["worst_case_sharpness"], dots["test_loss"]).statistic
    assert found == pytest.approx(PUBLISHED[pool][0], abs=0.03)
    low, high = published_interval(pool, STATISTICS)
    assert low < PUBLISHED[pool][0] < high
    assert interval_error(low, high, 0.95) == pytest.approx(0.1, abs=0.04)


def test_the_reading_error_is_that_of_half_a_dot():
    assert reading_error("fcnn", "worst_case_sharpness") == pytest.approx(0.001, abs=1e-4)
    assert reading_error("fcnn", "test_loss") == pytest.approx(0.002, abs=1e-4)


def test_a_source_gives_mean_and_spread_with_their_errors():
    found = {v.quantity: v for v in source_values("gat", STATISTICS) if "figure" in v.source}
    dots = scatter("gat")["worst_case_sharpness"]
    assert found["worst_case_sharpness"].value == pytest.approx(dots.mean())
    assert found["worst_case_sharpness"].error > dots.sem()
    assert found["tau"].value == -0.185


def test_the_error_of_a_spread_is_that_of_repeated_draws():
    draws = np.random.default_rng(0).normal(2, 0.5, size=(400, 40))
    found = np.array([mean_and_spread(pd.Series(row))[1] for row in draws])
    assert np.sqrt((found[:, 1] ** 2).mean()) == pytest.approx(found[:, 0].std(), rel=0.1)
    assert np.isnan(mean_and_spread(pd.Series([1.0, 2.0]))[1][1])


def test_the_fcnns_figure_has_the_sharpness_that_its_notebook_prints_of_unrelated_weights():
    losses = printed()
    # The losses are those before a last step. Model 42 was trained to a loss that still swings.
    kept = losses.drop(index=42)
    sharpness = kept["climbed_loss"] - kept["train_loss"]
    dots = scatter("fcnn")["worst_case_sharpness"]
    shares = np.linspace(0.05, 0.95, 19)
    error = reading_error("fcnn", "worst_case_sharpness")
    assert np.abs(sharpness.quantile(shares) - dots.quantile(shares)).max() < error
    # A model's loss after an ascent goes with that before it, if both are its own.
    assert abs(stats.pearsonr(kept["climbed_loss"], kept["train_loss"]).statistic) < 0.1
