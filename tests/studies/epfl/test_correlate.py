"""From a pool's tables to τ: nothing is dropped, too few models is an error."""

import pytest
from scipy import stats

from flatness.records.tables import read_table
from flatness.studies.epfl.published import scatter
from flatness.studies.epfl.rows import PoolCorrelation, PoolModel, PublishedRange
from studies.epfl.made_up_pool import correlate, pool_tables


def test_tau_is_that_of_the_usable_models_and_none_is_dropped(tmp_path):
    losses, sharpness = pool_tables(tmp_path, 20, diverged=[3], unmeasured=[7])
    assert correlate(tmp_path) == 0
    models = read_table(tmp_path / "models.csv", PoolModel)
    assert models["seed"].tolist() == list(range(20))
    left_out = models[~models["used"]].set_index("seed")["reason"].to_dict()
    assert left_out == {3: "the loss became nan in epoch 2", 7: "nothing to measure"}
    table = read_table(tmp_path / "table.csv", PoolCorrelation).set_index("measure")
    kept = [seed for seed in range(20) if seed not in (3, 7)]
    expected = stats.kendalltau(sharpness[kept], losses[kept])
    assert table.loc["worst_case_sharpness", "tau"] == pytest.approx(expected.statistic)
    clamped = stats.kendalltau(abs(sharpness[kept]), losses[kept])
    assert table.loc["worst_case_sharpness_clamped", "tau"] == pytest.approx(clamped.statistic)
    assert table["n"].tolist() == [18, 18]
    assert table["excluded"].tolist() == [2, 2]
    assert table["published_tau"].tolist() == [-0.185, -0.185]


def test_means_and_spreads_are_given_as_multiples_of_the_published_ones(tmp_path):
    losses, sharpness = pool_tables(tmp_path, 20, diverged=[3])
    assert correlate(tmp_path) == 0
    table = read_table(tmp_path / "ranges.csv", PublishedRange).set_index("compared")
    kept = [seed for seed in range(20) if seed != 3]
    dots = scatter("gat")
    expected = {"worst_case_sharpness": sharpness[kept], "test_loss": losses[kept]}
    for name, own in expected.items():
        line, spread = table.loc[name], table.loc[f"{name}_sd"]
        assert line["ratio_to_source"] == pytest.approx(own.mean() / dots[name].mean())
        assert spread["ratio_to_source"] == pytest.approx(own.std(ddof=1) / dots[name].std())
        # With ours alone in error the interval would be that of our mean.
        only = stats.ttest_1samp(own / dots[name].mean(), 1).confidence_interval()
        assert line["low"] < only.low < only.high < line["high"]
    assert set(table["n"]) == {19} and set(table["excluded"]) == {1}


def test_a_model_names_the_sets_it_was_trained_and_measured_with(tmp_path):
    pool_tables(tmp_path, 20, measured_with="AVX512")
    assert correlate(tmp_path) == 0
    models = read_table(tmp_path / "models.csv", PoolModel)
    table = read_table(tmp_path / "table.csv", PoolCorrelation)
    assert {*models["instruction_set"], *table["instruction_set"]} == {"AVX2+AVX512"}


def test_fewer_than_three_usable_models_is_an_error_in_place_of_a_tau(tmp_path, capsys):
    pool_tables(tmp_path, 6, diverged=[0, 1, 2, 5])
    assert correlate(tmp_path) == 4
    message = capsys.readouterr().err
    assert "pool gat (written, written): 2 usable models of 6, a τ needs 3" in message
    assert "4 × the loss became nan in epoch 2" in message
    assert not (tmp_path / "table.csv").exists()
