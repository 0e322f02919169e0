import math

import numpy as np
import pandas as pd
import pytest

from flatness.records.tables import read_table, write_table
from flatness.statistics.settings import Statistics
from flatness.studies.chen.contrasts import (
    contrast_family,
    difference_of_correlations,
    gap_excess,
)
from flatness.studies.chen.measured_rows import (
    Contrast,
    FactorEffect,
    InterpolatedChange,
    MeasuredCheckpoint,
)
from made_up_results import made_up

STATISTICS = Statistics(resamples=500, confidence=0.9, seed=0)


def checkpoint(seed, step, a, b, c, d, **more):
    return made_up(
        MeasuredCheckpoint, setting="lr0.1_batch20", learning_rate=0.1, batch_size=20, seed=seed,
        step=step, sampled="train",
        mls=a, bound_b_released=b, bound_c_released=c, bound_d_released=d, **more,
    )  # fmt: skip


def test_the_excess_is_in_powers_of_ten_and_a_mean_over_checkpoints():
    table = pd.DataFrame(
        row.model_dump()
        for row in (
            checkpoint(0, 0, 1, 10, 10, 1000),  # gaps 1, 0, 2: excess 1
            checkpoint(0, 5, 1, 1, 1000, 1e4),  # gaps 0, 3, 1: excess −2
            checkpoint(1, 0, 1, 1, 1, 10),  # gaps 0, 0, 1
            checkpoint(2, 0, 1, 1, 1, 10),
            checkpoint(2, 5, math.nan, 1, 1, 10),
        )
    )
    np.testing.assert_allclose(gap_excess(table), [-0.5, 1, np.nan], rtol=1e-12)
    # As differences in units of A: gaps 9, 0, 990 and 0, 999, 9000; then 0, 0, 9.
    expected = [(981 + 8001) / 2, 9, np.nan]
    np.testing.assert_allclose(gap_excess(table, ratios=False), expected, rtol=1e-12)


def test_correlations_are_compared_by_size_over_the_same_models():
    rng = np.random.default_rng(1)
    x, noise = rng.normal(size=(2, 40))
    close, far = -x + 0.3 * noise, x + 3 * noise
    found = difference_of_correlations(x, close, far, np.arange(len(x)), STATISTICS)
    sizes = [abs(np.corrcoef(x, other)[0, 1]) for other in (close, far)]
    assert found["estimate"] == pytest.approx(sizes[0] - sizes[1])
    assert 0 < found["low"] < found["estimate"] < found["high"]
    turned = difference_of_correlations(x, far, close, np.arange(len(x)), STATISTICS)
    assert turned["high"] == pytest.approx(-found["low"])
    # Paired: whoever is left out, a variable compared with itself differs by nothing.
    same = difference_of_correlations(x, close, close, np.arange(len(x)), STATISTICS)
    assert same["estimate"] == 0 and math.isnan(same["low"])


@pytest.mark.parametrize("y", [np.ones(5), np.arange(5.0)[:2]])
def test_too_little_to_correlate_is_nan(y):
    x = np.arange(float(len(y)))
    assert math.isnan(difference_of_correlations(x, y, x, x, STATISTICS)["estimate"])


def test_a_family_gives_three_tables_and_counts_what_it_leaves_out(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(6):
        s, m = rng.uniform(1, 2, size=2)
        last = {"last": True, "local_dimensionality": m, "family": "mlp_tanh"}
        lost = {"sharpness": math.nan if seed == 5 else s, "diverged": seed == 5}
        rows.append(checkpoint(seed, 9, s, 1.1 * s, 1.2 * s, 12 * s * m, **last, **lost))
    rows.append(rows[0].model_copy(update={"sampled": "test", "mls": math.nan}))
    write_table(tmp_path / "checkpoints.csv", rows)
    contrast_family(
        statistics=STATISTICS.model_dump_json(),
        checkpoints=tmp_path / "checkpoints.csv",
        output=tmp_path / "contrasts.csv",
        effects=tmp_path / "effects.csv",
        changes=tmp_path / "changes.csv",
    )
    # One setting and one checkpoint a model: no factor varies, and nothing happens after another.
    assert read_table(tmp_path / "effects.csv", FactorEffect).empty
    assert read_table(tmp_path / "changes.csv", InterpolatedChange).empty
    found = read_table(tmp_path / "contrasts.csv", Contrast).set_index("contrast")
    assert found.loc["c_to_d_gap", ["n", "excluded"]].tolist() == [6, 0]
    assert found.loc["c_to_d_gap", "low"] > 0.5
    assert found.loc["mls_over_dimensionality", ["n", "excluded"]].tolist() == [5, 1]
    assert found.loc["mls_over_dimensionality", "estimate"] > 0
