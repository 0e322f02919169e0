"""What settings do, compared within seeds, at equal steps and at equal losses."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from flatness.statistics.settings import Statistics
from flatness.studies.chen.effects import effect, factor_effects, page_p
from flatness.studies.chen.matched import END, at_loss
from flatness.studies.chen.quantities import last_on_train, one_factor, with_derived
from studies.chen.small_study import made_up_family

STATISTICS = Statistics(resamples=500, confidence=0.95, seed=0)


def frame(**options):
    return with_derived(pd.DataFrame([row.model_dump() for row in made_up_family(**options)]))


def test_an_effect_is_the_mean_difference_within_seeds():
    models = one_factor(last_on_train(frame(seeds=6)), "learning_rate")
    found = effect(models, "learning_rate", "root_sharpness", STATISTICS)
    wide = models.pivot(index="seed", columns="learning_rate", values="root_sharpness")
    expected = stats.ttest_1samp(wide[0.2] - wide[0.05], 0)
    interval = expected.confidence_interval()
    assert found["estimate"] == pytest.approx((wide[0.2] - wide[0.05]).mean())
    assert [found["low"], found["high"]] == pytest.approx([interval.low, interval.high])
    assert found["p_value"] == pytest.approx(expected.pvalue)
    assert (found["lowest"], found["highest"], found["n"], found["excluded"]) == (0.05, 0.2, 6, 0)


def test_a_perfect_order_has_an_interval_around_its_estimate():
    """Where all seeds agree, a rank correlation is at its ceiling; a difference is not."""
    models = one_factor(last_on_train(frame(seeds=20)), "learning_rate")
    models = models.assign(mls=-models["learning_rate"] * (1 + models["seed"] / 100))
    found = effect(models, "learning_rate", "mls", STATISTICS)
    assert found["low"] < found["estimate"] < found["high"] < 0
    assert found["p_page"] < 1e-6


def test_pages_test_uses_every_level_and_both_directions():
    rising = np.tile([1.0, 2.0, 3.0], (5, 1))
    assert page_p(rising) == pytest.approx(page_p(-rising)) and page_p(rising) < 0.01
    assert page_p(np.tile([1.0, 3.0, 1.5], (5, 1))) > page_p(rising)


def test_a_seed_without_some_level_is_left_out_and_said_so():
    models = one_factor(
        last_on_train(frame(seeds=6, diverged=(("lr0.2_batch20", 2),))), "learning_rate"
    )
    found = effect(models, "learning_rate", "mls", STATISTICS)
    assert (found["n"], found["excluded"]) == (5, 3)
    assert "1 × training loss not finite by step 100" in found["reasons"]


def test_rows_cover_both_factors_at_equal_steps_and_at_every_loss():
    rows = pd.DataFrame(factor_effects(frame(seeds=4, trend_seeds=3), STATISTICS))
    assert set(rows["factor"]) == {"learning_rate", "batch_size"}
    assert set(rows["at"]) == {
        END, "loss 0.01", "loss 0.001", "loss 0.0003", "loss 0.0001"
    }  # fmt: skip
    assert rows.loc[rows["at"] == END, "n"].eq(4).all()
    assert rows.loc[rows["at"] == "loss 0.01", "n"].le(3).all()


def run(losses, mls, seed=0, setting="a"):
    return pd.DataFrame(
        {
            "setting": setting, "seed": seed, "step": np.arange(len(losses)), "sampled": "train",
            "train_loss": losses, "mls": mls, "reason": "", "learning_rate": 0.1,
        }
    )  # fmt: skip


def test_at_a_loss_numbers_are_linear_in_its_logarithm():
    found = at_loss(run([1e-1, 1e-2, 1e-4, 1e-5], [9.0, 5.0, 1.0, 0.0]), 1e-3)
    assert found["mls"].tolist() == pytest.approx([3.0])
    assert found["train_loss"].tolist() == pytest.approx([5.05e-3])
    exact = at_loss(run([1e-1, 1e-2, 1e-3], [9.0, 5.0, 1.0]), 1e-3)
    assert exact["mls"].tolist() == pytest.approx([1.0])


def test_the_first_crossing_counts():
    found = at_loss(run([1e-1, 1e-4, 1e-1, 1e-4], [0.0, 3.0, 0.0, 9.0]), 1e-4)
    assert found["mls"].tolist() == pytest.approx([3.0])


@pytest.mark.parametrize(
    ("losses", "reason"),
    [([1e-1, 1e-2], "training loss stays above 0.001"), ([1e-4, 1e-5], "measured too late")],
)
def test_a_model_that_cannot_be_placed_is_named(losses, reason):
    found = at_loss(run(losses, [2.0, 1.0]), 1e-3)
    assert found["mls"].isna().all() and found["reason"].tolist() == [reason]


def test_models_measured_once_are_not_compared_at_a_loss():
    assert at_loss(run([1e-4], [2.0]), 1e-3).empty
