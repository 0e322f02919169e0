"""Intervals cover the truth as often as they state, on data of the studies' shape."""

import numpy as np
import pytest

from flatness.statistics.correlations import correlate

SEEDS, SETTINGS = 20, 5
#: Two quantities of a grid: what a setting adds to each, spread of seeds and of models, and the
#: correlation of either spread.
GRIDS = {
    "settings decide": ([[0, 1.5, 3, 0.8, 2.2], [0, 1.4, 2.9, 0.7, 2.3]], 0.8, 0.3, 0.3),
    "settings disagree": ([[0, 1, 2, 0.5, 1.5], [0.5, 0, -0.5, 1, 0]], 1.0, 0.0, 0.0),
    "seeds decide": ([[0, 0.5, 1, 0.2, 0.7], [0, -0.5, -1, 0.3, 0.2]], 2.0, 0.5, 0.3),
}


def drawn_pairs(rng, shape, correlation):
    """Two normal variables (2, *shape) of a given correlation."""
    x, y = rng.normal(size=(2, *shape))
    return np.stack([x, correlation * x + np.sqrt(1 - correlation**2) * y])


def grid_models(rng, effects, spread, among_seeds, among_models, grids):
    """Two quantities of many grids, (2, grids, seeds × settings)."""
    seeds = spread * drawn_pairs(rng, (grids, SEEDS, 1), among_seeds)
    models = drawn_pairs(rng, (grids, SEEDS, SETTINGS), among_models)
    values = np.array(effects)[:, None, None, :] + seeds + models
    return values.reshape(2, grids, -1)


@pytest.mark.slow
@pytest.mark.parametrize("name", GRIDS)
def test_intervals_over_seeds_cover_r_as_often_as_stated(name):
    """1,500 grids: the standard error of a coverage of .95 is .006."""
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(SEEDS), SETTINGS)
    x, y = grid_models(rng, *GRIDS[name], grids=20_000).reshape(2, -1)
    truth = np.corrcoef(x, y)[0, 1]
    covered = 0
    for x, y in grid_models(rng, *GRIDS[name], grids=1500).swapaxes(0, 1):
        found = correlate(x, y, method="pearson", groups=groups, resamples=1)
        covered += found.low <= truth <= found.high
    assert covered / 1500 >= 0.94


@pytest.mark.slow
@pytest.mark.parametrize("truth", [0.0, -0.3, -0.6])
def test_intervals_over_independent_models_cover_tau_as_often_as_stated(truth):
    """Pools of 50 models; for a Gaussian pair τ = (2/π) asin r."""
    rng = np.random.default_rng(2)
    covered = 0
    for x, y in drawn_pairs(rng, (1500, 50), np.sin(np.pi / 2 * truth)).swapaxes(0, 1):
        found = correlate(x, y, method="kendall", resamples=1)
        covered += found.low <= truth <= found.high
    assert covered / 1500 >= 0.94
