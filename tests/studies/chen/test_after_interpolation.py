"""Changes from the first interpolating checkpoint to the last."""

import numpy as np
import pandas as pd
import pytest

from flatness.statistics.settings import Statistics
from flatness.studies.chen.after_interpolation import interpolated_changes, run_change
from flatness.studies.chen.quantities import with_derived

STATISTICS = Statistics(resamples=500, confidence=0.95, seed=0)


def checkpoints(
    seed, rate=0.1, batch=20, *, factor=0.5, interpolated=(0, 0, 1, 1), sampled="train"
):
    """A run whose √S, MLS … are 8, 4, 2 and 2 × factor, log volume 3, 2, 1, 1 + ln(factor)."""
    sizes = np.array([8.0, 4.0, 2.0, 2.0 * factor])
    table = pd.DataFrame(
        {
            "setting": f"lr{rate:g}_batch{batch}", "learning_rate": rate, "batch_size": batch,
            "seed": seed, "step": [0, 10, 20, 30], "sampled": sampled,
            "interpolated": np.array(interpolated, dtype=bool), "diverged": False, "reason": "",
            "sharpness": sizes**2, "mls": sizes, "nmls": sizes, "local_dimensionality": sizes,
            "log_volume_top3": [3.0, 2.0, 1.0, 1.0 + np.log(factor)],
        }
    )  # fmt: skip
    return with_derived(table)


def rows(*runs, **where):
    found = pd.DataFrame(interpolated_changes(pd.concat(runs), STATISTICS))
    return found[(found[list(where)] == pd.Series(where)).all(axis=1)] if where else found


def test_a_run_changes_from_its_first_interpolating_checkpoint_on():
    found = run_change(checkpoints(0))
    assert found["root_sharpness"] == pytest.approx(np.log(0.5))
    assert found["mls"] == pytest.approx(np.log(0.5))
    assert found["log_volume_top3"] == pytest.approx(np.log(0.5))
    assert (found["first_step"], found["last_step"]) == (20, 30)


@pytest.mark.parametrize("flags", [(0, 0, 0, 0), (0, 0, 0, 1)])
def test_a_run_without_such_a_phase_says_so(flags):
    found = run_change(checkpoints(0, interpolated=flags))
    assert np.isnan(found["mls"])
    assert found["reason"] == "no checkpoint after the first that interpolates"


def test_over_seeds_each_seed_counts_once():
    runs = [
        checkpoints(seed, rate, factor=factor)
        for rate, factors in ((0.1, (0.5, 0.6, 0.4)), (0.2, (1.5, 1.2, 1.1)))
        for seed, factor in enumerate(factors)
    ]
    row = rows(*runs, over="seeds", factor="learning_rate", level="all", y="mls").iloc[0]
    means = [np.log(a * b) / 2 for a, b in ((0.5, 1.5), (0.6, 1.2), (0.4, 1.1))]
    assert row["estimate"] == pytest.approx(np.mean(means))
    assert (row["n"], row["runs"], row["rising"], row["excluded"]) == (3, 6, 3, 0)
    assert row["low"] < row["estimate"] < row["high"]
    slow = rows(*runs, over="seeds", factor="learning_rate", level="0.1", y="mls").iloc[0]
    assert slow["estimate"] == pytest.approx(np.mean(np.log([0.5, 0.6, 0.4])))
    assert (slow["runs"], slow["rising"]) == (3, 0)


def test_every_run_has_rows_and_those_left_out_are_counted():
    runs = [
        checkpoints(0, batch=8), checkpoints(1, batch=8, interpolated=(0, 0, 0, 1)),
        checkpoints(0), checkpoints(1),
    ]  # fmt: skip
    single = rows(*runs, over="run", y="mls")
    assert len(single) == 4 and single["estimate"].isna().sum() == 1
    row = rows(*runs, over="seeds", factor="batch_size", level="all", y="mls").iloc[0]
    assert (row["runs"], row["excluded"]) == (3, 1)
    assert row["reasons"] == "1 × no checkpoint after the first that interpolates"


def test_test_images_are_distinguished():
    runs = [checkpoints(s, sampled=kind, factor=f) for s in (0, 1)
            for kind, f in (("train", 0.5), ("test", 2.0))]  # fmt: skip
    found = rows(*runs, over="run", y="mls").groupby("sampled")["estimate"].first()
    assert found.to_dict() == pytest.approx({"train": np.log(0.5), "test": np.log(2)})


def test_runs_that_were_not_measured_along_training_give_nothing():
    assert rows(checkpoints(0).iloc[-1:]).empty
