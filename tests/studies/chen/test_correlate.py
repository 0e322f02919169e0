import numpy as np
import pandas as pd
import pytest
from scipy import stats

from flatness.records.tables import read_table, write_table
from flatness.statistics.correlations import held_fixed
from flatness.statistics.settings import Statistics
from flatness.studies.chen.correlate import (
    correlate_family,
    family_correlations,
    over_models,
)
from flatness.studies.chen.inequalities import tightness
from flatness.studies.chen.matched import END, at_name
from flatness.studies.chen.measured_rows import (
    BoundTightness,
    FamilyCorrelation,
    MeasuredCheckpoint,
)
from flatness.studies.chen.quantities import last_on_train, one_factor, with_derived
from flatness.studies.chen.within_groups import among_seeds, among_settings, over_checkpoints
from studies.chen.small_study import made_up_family

STATISTICS = Statistics(resamples=200, confidence=0.95, seed=0)


def frame(**options):
    return with_derived(pd.DataFrame([row.model_dump() for row in made_up_family(**options)]))


def chosen(rows, **where):
    table = pd.DataFrame(rows)
    return table[(table[list(where)] == pd.Series(where)).all(axis=1)]


def test_every_pair_is_correlated_over_models_by_every_method():
    models = last_on_train(frame())
    rows = chosen(over_models(models, STATISTICS), over="models", x="mls", y="bound_d_released")
    assert rows["method"].tolist() == ["pearson", "spearman", "kendall"]
    expected = stats.pearsonr(models["mls"], models["bound_d_released"])[0]
    assert rows["estimate"].iloc[0] == pytest.approx(expected, abs=1e-12)
    assert (rows["n"] == 20).all() and (rows["excluded"] == 0).all()
    assert (rows["interpolating"] == 16).all()


def test_diverged_models_are_left_out_with_their_number_and_reason():
    models = last_on_train(frame(diverged=(("lr0.1_batch8", 1), ("lr0.1_batch8", 3))))
    rows = chosen(over_models(models, STATISTICS), over="models", x="mls", y="nmls")
    assert rows["n"].tolist() == [18] * 3
    assert rows["excluded"].tolist() == [2] * 3
    assert set(rows["reasons"]) == {"2 × training loss not finite by step 100"}


def test_fewer_than_three_models_give_rows_without_a_coefficient():
    rows = pd.DataFrame(over_models(last_on_train(frame(seeds=1)).iloc[:2], STATISTICS))
    assert rows["estimate"].isna().all()
    assert (rows.loc[rows["over"] == "models", "n"] <= 2).all()


def test_one_factor_leaves_out_other_optimizers():
    table = pd.DataFrame(
        {
            "learning_rate": [0.1, 0.2, 0.1, 0.1],
            "batch_size": [20, 20, 8, 20],
            "setting": ["lr0.1_batch20", "lr0.2_batch20", "lr0.1_batch8", "lr0.1_batch20_adam"],
        }
    )
    assert one_factor(table, "learning_rate")["setting"].tolist() == [
        "lr0.1_batch20",
        "lr0.2_batch20",
    ]
    assert one_factor(table, "batch_size")["setting"].tolist() == ["lr0.1_batch20", "lr0.1_batch8"]
    assert len(one_factor(table, "setting")) == 4


def test_partial_correlation_agrees_with_the_textbook_formula():
    x, y, z = np.random.default_rng(0).normal(size=(3, 40))
    x, y = x + z, y - z
    (xy, xz), yz = (stats.spearmanr(x, other)[0] for other in (y, z)), stats.spearmanr(y, z)[0]
    expected = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
    assert stats.pearsonr(*held_fixed(x, y, z))[0] == pytest.approx(expected, abs=1e-12)


def test_what_the_covariate_explains_wholly_has_no_partial_correlation():
    z = np.arange(10.0)
    a, b = held_fixed(z**3, np.sin(z), z)
    assert (a == 0).all() and (b != 0).any()


def test_settings_and_seeds_are_distinguished():
    """MLS follows the learning rate within a seed, and runs against it over all models."""
    models = last_on_train(frame(seeds=4))
    rate, seed = models["learning_rate"], models["seed"]
    models = models.assign(root_sharpness=-rate - 5 * seed, mls=-rate + 5 * seed)
    by_seed = chosen(among_settings(models, STATISTICS), x="root_sharpness", y="mls")
    assert by_seed["over"].tolist() == ["settings"]
    assert by_seed["estimate"].iloc[0] == pytest.approx(1)
    assert by_seed["n"].iloc[0] == 4
    by_setting = chosen(among_seeds(models, STATISTICS), x="root_sharpness", y="mls")
    assert by_setting["over"].tolist() == ["seeds"]
    assert by_setting["estimate"].iloc[0] == pytest.approx(-1)
    assert by_setting["n"].iloc[0] == 4


def test_within_groups_the_mean_is_of_each_groups_coefficient():
    models = last_on_train(frame(seeds=6, diverged=(("lr0.1_batch8", 1),)))
    row = chosen(among_settings(models, STATISTICS), x="nmls", y="nmls_bound_released").iloc[0]
    groups = [part.dropna(subset="nmls") for _, part in models.groupby("seed")]
    expected = [stats.pearsonr(g["nmls"], g["nmls_bound_released"])[0] for g in groups]
    assert row["estimate"] == pytest.approx(np.mean(expected), abs=1e-12)
    assert row["low"] < row["estimate"] < row["high"]
    assert (row["n"], row["excluded"]) == (6, 1)


def test_two_seeds_have_no_correlation_within_a_setting():
    models = last_on_train(frame(seeds=2))
    assert list(among_seeds(models, STATISTICS)) == []


def test_among_seeds_a_seed_counts_once_however_many_settings_repeat_it():
    """Settings that shift both quantities alike tell nothing more than one of them does."""
    rng = np.random.default_rng(0)
    models = last_on_train(frame(seeds=20))
    x, y = (models["seed"].map(dict(enumerate(rng.normal(size=20)))) for _ in range(2))
    shift = models.groupby("setting").ngroup()
    models = models.assign(root_sharpness=x + shift, mls=y + shift)
    row = chosen(among_seeds(models, STATISTICS), x="root_sharpness", y="mls").iloc[0]
    one = models[models["setting"] == models["setting"].iloc[0]]
    assert row["estimate"] == pytest.approx(stats.pearsonr(one["root_sharpness"], one["mls"])[0])
    assert row["high"] - row["low"] > 0.5
    assert row["p_permutation"] > 0.05 and row["n"] == 20


def test_a_seed_that_lacks_a_model_is_left_out_and_counted():
    models = last_on_train(frame(seeds=5, diverged=(("lr0.1_batch8", 1),)))
    row = chosen(among_seeds(models, STATISTICS), x="nmls", y="nmls_bound_released").iloc[0]
    assert (row["n"], row["excluded"]) == (4, 5)
    assert row["interpolating"] == models[models["seed"] != 1]["interpolated"].sum()
    assert "4 × a quantity, of it or of its group" in row["reasons"]


def test_along_training_each_seed_counts_once():
    rows = list(over_checkpoints(frame(seeds=6, trend_seeds=5), STATISTICS))
    raw = chosen(rows, y="mls", covariate="", sampled="train")
    assert raw["n"].tolist() == [5]
    assert 0.8 < raw["estimate"].iloc[0] <= 1
    assert raw["low"].iloc[0] <= raw["estimate"].iloc[0] <= raw["high"].iloc[0] < 1
    constant = chosen(rows, y="local_dimensionality", covariate="", sampled="train")
    assert constant["n"].tolist() == [0] and constant["estimate"].isna().all()
    assert constant["reasons"].iloc[0] == (
        "25 × a quantity, of it or of its group, is not finite or does not vary"
    )


def test_test_images_have_rows_of_their_own():
    table = frame()
    test = table["sampled"] == "test"
    table.loc[test, "mls"] = -table.loc[test, "root_sharpness"]
    rows = chosen(over_checkpoints(table, STATISTICS), y="mls", covariate="")
    assert rows.set_index("sampled")["estimate"].loc["test"] == pytest.approx(-1)
    assert rows.set_index("sampled")["estimate"].loc["train"] > 0.8


def test_a_row_says_how_many_steps_lie_behind_it():
    """Runs that go on after the step of comparison do not make a comparison of models longer."""
    table = frame()
    later = table[table["last"]].assign(step=900, last=False)
    rows = pd.DataFrame(family_correlations(pd.concat([table, later]), STATISTICS))
    steps = rows.groupby("at")["steps"].agg(set).to_dict()
    # two runs of the highest learning rate reach the loss, at step 300
    assert steps == {END: {400}, at_name(3e-4): {300}, "along training": {900}}


def test_a_family_without_trends_has_no_rows_along_training():
    assert list(over_checkpoints(frame(trend_seeds=0), STATISTICS)) == []


def test_bounds_are_compared_with_violations_counted():
    table = frame(network="vgg11", seeds=2, trend_seeds=0)
    table.loc[table.index[0], "bound_d_released"] = table["mls"].iloc[0] / 10
    rows = chosen(tightness(table), quantity="mls", bound="bound_d_released")
    assert rows[["standing", "violations", "n"]].values.tolist() == [["heuristic", 1, 10]]
    assert rows["lowest_log10_ratio"].iloc[0] == pytest.approx(-1)
    assert rows["median_log10_ratio"].iloc[0] == pytest.approx(np.log10(30))


def test_the_released_bounds_of_a_dense_network_are_theorems():
    assert set(pd.DataFrame(tightness(frame(seeds=1)))["standing"]) == {"theorem"}


def test_the_command_writes_three_tables_and_drops_no_row(tmp_path):
    rows = made_up_family(diverged=(("lr0.2_batch20", 0),))
    write_table(tmp_path / "a.csv", rows[:20])
    write_table(tmp_path / "b.csv", rows[20:])
    outputs = [tmp_path / name for name in ("checkpoints.csv", "correlations.csv", "bounds.csv")]
    tables = [tmp_path / "a.csv", tmp_path / "b.csv"]
    correlate_family(STATISTICS.model_dump_json(), tables, *outputs)
    checkpoints = read_table(outputs[0], MeasuredCheckpoint)
    assert len(checkpoints) == len(rows)
    assert checkpoints["diverged"].sum() == 12
    correlations = read_table(outputs[1], FamilyCorrelation)
    assert set(correlations["over"]) == {"models", "settings", "seeds", "checkpoints"}
    assert set(correlations["at"]) == {"end of training", "loss 0.0003", "along training"}
    assert set(correlations["train_size"]) == {40} and set(correlations["steps"]) == {300, 400}
    assert len(read_table(outputs[2], BoundTightness)) > 10
