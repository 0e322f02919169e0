"""Replications: seeds and blocks, τ of each, its distribution, the figure."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats

from checkout import shipped
from flatness.__main__ import main
from flatness.errors import UserError
from flatness.pipeline.config import validate
from flatness.records.frozen import seeds_of
from flatness.records.tables import read_table
from flatness.studies.epfl.config import training
from flatness.studies.epfl.draw.replications import corrected, draw_pool, place
from flatness.studies.epfl.replicate import spread_of_splits, tau_distribution
from flatness.studies.epfl.rows import ReplicatedModel, Replication, TauDistribution
from studies.epfl.made_up_pool import STATISTICS, pool_tables

ONE = np.zeros(100, dtype=int)


def test_replications_have_all_seeds_once_and_keep_the_main_blocks():
    changed = shipped()
    changed["epfl"]["replications"] = {
        "fcnn": {"count": 4, "block": 70},
        "gat": {"count": 1, "block": 9},
    }
    changed["epfl"]["audit"] = {}
    changed["epfl"]["pools"]["fcnn"]["block"] = 25
    epfl = validate(changed).epfl
    blocks = epfl.replication_blocks("fcnn", "written")
    assert blocks == ["0-24", "25-49", "50-119", "120-189", "190-199"]
    assert [seed for block in blocks for seed in seeds_of(block)] == list(range(200))
    assert epfl.replication_blocks("gat", "written") == epfl.pools["gat"].blocks


def test_the_main_pools_jobs_are_the_same_with_and_without_replications():
    """A pool that is already trained stays so when replications are asked for."""
    values = shipped()
    values["epfl"]["pools"]["fcnn"]["block"] = 25
    epfl = validate(values).epfl
    settings = training(epfl, "fcnn", "written", "cpu")
    assert epfl.of_block(settings, "25-49") == settings
    larger = epfl.of_block(settings, "50-249")
    assert larger == settings.model_copy(update={"block": 200})


def test_each_split_has_as_many_pools_and_a_block_is_of_one_split():
    changed = shipped()
    changed["epfl"]["replications"] = {"fcnn": {"count": 6, "block": 70, "splits": 3}}
    epfl = validate(changed).epfl
    settings = training(epfl, "fcnn", "written", "cpu")
    splits = {
        seed: epfl.of_block(settings, block).split
        for block in epfl.replication_blocks("fcnn", "written")
        for seed in seeds_of(block)
    }
    assert splits == {seed: seed // 100 for seed in range(300)}


def test_the_first_pools_are_run_as_released_too_on_the_same_splits():
    changed = shipped()
    changed["epfl"]["replications"] = {
        "fcnn": {"count": 6, "block": 70, "splits": 3, "released": 3},
        "gat": {"count": 6, "block": 70},
    }
    epfl = validate(changed).epfl
    assert epfl.replicated_protocols("fcnn") == ["written", "released"]
    assert epfl.replicated_protocols("gat") == ["written"]
    assert epfl.replicated_protocols("lenet5") == []
    blocks = epfl.replication_blocks("fcnn", "released")
    assert [seed for block in blocks for seed in seeds_of(block)] == list(range(150))
    settings = training(epfl, "fcnn", "released", "cpu")
    assert [epfl.of_block(settings, block).split for block in blocks][-2:] == [0, 1]


def test_more_released_pools_than_there_are_are_refused():
    wrong = shipped()
    wrong["epfl"]["replications"] = {"fcnn": {"count": 4, "block": 50, "released": 5}}
    with pytest.raises(UserError, match="released 5 must not exceed count 4"):
        validate(wrong)


@pytest.mark.parametrize(
    ("pool", "count", "message"),
    [("gat", 4, "only fcnn draws splits"), ("fcnn", 5, "splits 2 must divide count 5")],
)
def test_splits_that_cannot_be_drawn_are_refused(pool, count, message):
    wrong = shipped()
    wrong["epfl"]["replications"] = {pool: {"count": count, "block": 50, "splits": 2}}
    with pytest.raises(UserError, match=message):
        validate(wrong)


def test_replications_of_an_unknown_pool_are_refused():
    wrong = shipped()
    del wrong["epfl"]["pools"]["fcnn"]
    with pytest.raises(UserError, match=r"replications.fcnn: no such pool"):
        validate(wrong)


def replicate(folder, size):
    return main(
        ["replicate-epfl", "--pool", "gat", "--trained", "written", "--measured", "written"]
        + ["--size", str(size), "--statistics", STATISTICS.model_dump_json()]
        + [f"--training={folder / name}.csv" for name in ("t0", "t1")]
        + [f"--measurements={folder / name}.csv" for name in ("m0", "m1")]
        + ["--models", str(folder / "models.csv"), "--output", str(folder / "table.csv")]
        + ["--replications", str(folder / "replications.csv")]
    )


def test_each_replication_has_its_tau_and_no_model_is_dropped(tmp_path):
    losses, sharpness = pool_tables(tmp_path, 30, diverged=[3, 20, 21, 22, 23], unmeasured=[7])
    # the fifth replication, seeds 24 to 29, is whole; the fourth, 18 to 23, has two models left
    assert replicate(tmp_path, 6) == 0
    rows = read_table(tmp_path / "replications.csv", Replication)
    assert rows["replication"].tolist() == [0, 1, 2, 3, 4]
    assert rows["n"].tolist() == [5, 5, 6, 2, 6]
    assert rows["excluded"].tolist() == [1, 1, 0, 4, 0]
    assert rows["reason"].tolist() == ["", "", "", "2 usable models of 6, a τ needs 3", ""]
    assert math.isnan(rows["tau"][3])
    whole = stats.kendalltau(sharpness[24:], losses[24:]).statistic
    assert rows["tau"][4] == pytest.approx(whole)
    models = read_table(tmp_path / "models.csv", ReplicatedModel)
    assert models["seed"].tolist() == list(range(30))
    assert (models["replication"] == models["seed"] // 6).all()
    table = read_table(tmp_path / "table.csv", TauDistribution).loc[0]
    assert (table["replications"], table["excluded"], table["replication_size"]) == (4, 1, 6)
    assert table["train_size"] == 140
    assert table["mean_tau"] == pytest.approx(rows["tau"].mean())


def test_no_replication_with_a_tau_is_an_error(tmp_path, capsys):
    pool_tables(tmp_path, 6, diverged=range(6))
    assert replicate(tmp_path, 6) == 4
    assert "none of 1 replications has a τ; 0 usable models of 6" in capsys.readouterr().err


def test_the_intervals_are_those_of_students_t():
    taus = np.array([-0.2, 0.1, 0.05, -0.1, 0.3])
    found = tau_distribution(taus, published=-0.1, confidence=0.9, splits=ONE[:5])
    mean = stats.ttest_1samp(taus, 0).confidence_interval(0.9)
    assert (found["low"], found["high"]) == pytest.approx((mean.low, mean.high))
    # (τ − mean) / (s √(1 + 1/R)) of one more τ has Student's distribution
    half = (found["predictive_high"] - found["predictive_low"]) / 2
    share = half / (np.std(taus, ddof=1) * np.sqrt(6 / 5))
    assert 2 * stats.t.cdf(share, 4) - 1 == pytest.approx(0.9)
    assert found["percentile"] == pytest.approx(3 / 6)  # −0.2 and −0.1 are not above −0.1


def test_the_predictive_interval_holds_one_more_draw_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(-0.1, 0.1, size=(2000, 6))
    held = 0
    for *taus, another in draws:
        found = tau_distribution(np.array(taus), 0.0, 0.95, splits=ONE[:5])
        held += found["predictive_low"] <= another <= found["predictive_high"]
    assert held / len(draws) == pytest.approx(0.95, abs=0.015)


def test_the_intervals_hold_what_they_say_where_splits_differ():
    """Five splits of two pools: τ spreads by .1 between splits and by .05 within them."""
    rng, splits = np.random.default_rng(0), np.repeat(np.arange(5), 2)
    means = held = 0
    for _ in range(2000):
        of_splits = rng.normal(0, 0.1, size=6)
        taus = of_splits[splits] + rng.normal(0, 0.05, size=10)
        found = tau_distribution(taus, 0.0, 0.95, splits=splits)
        means += found["low"] <= 0 <= found["high"]
        held += (
            found["predictive_low"] <= rng.normal(of_splits[5], 0.05) <= found["predictive_high"]
        )
    assert means / 2000 == pytest.approx(0.95, abs=0.015)
    assert held / 2000 == pytest.approx(0.95, abs=0.02)


def test_the_spread_between_splits_is_told_from_that_within():
    rng, splits = np.random.default_rng(0), np.repeat(np.arange(200), 4)
    taus = rng.normal(0, 0.1, size=200)[splits] + rng.normal(0, 0.05, size=800)
    assert spread_of_splits(taus, splits) == pytest.approx((0.1, 0.05), rel=0.15)
    alone, within = spread_of_splits(taus, np.zeros(800))
    assert math.isnan(alone) and within == pytest.approx(taus.std(ddof=1))
    assert all(math.isnan(part) for part in spread_of_splits(taus[:3], np.arange(3)))


def test_one_replication_has_a_value_and_no_interval():
    found = tau_distribution(np.array([-0.2]), published=-0.3, confidence=0.95, splits=ONE[:1])
    assert found["mean_tau"] == -0.2
    assert found["percentile"] == 0.5
    for name in ("low", "high", "sd", "predictive_low", "predictive_high"):
        assert math.isnan(found[name])


@pytest.mark.parametrize("size", [4, 24])
def test_replications_are_drawn_the_same_each_time_also_a_single_one(tmp_path, size):
    pool_tables(tmp_path, 24)
    assert replicate(tmp_path, size) == 0
    for name in ("a", "b"):
        code = main(
            ["draw-epfl-replications", "--replications", str(tmp_path / "replications.csv")]
            + ["--distributions", str(tmp_path / "table.csv"), "--dpi", "60"]
            + ["--png", str(tmp_path / f"{name}.png"), "--svg", str(tmp_path / f"{name}.svg")]
        )
        assert code == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    found = read_table(tmp_path / "table.csv", TauDistribution).loc[0]
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert f"GAT on sbm, {24 // size} × {size} models" in text
    assert f"as written: mean τ = {found['mean_tau']:+.3f}" in text
    assert f"corrected {found['mean_tau_corrected']:+.3f}" in text
    where = place(found["percentile"], 24 // size)
    assert f"published: τ = {found['published_tau']:+.3f}, {where}" in text


def test_a_figure_says_if_tau_cannot_be_corrected():
    summary = pd.Series({"mean_tau_corrected": np.nan, "splits": 1})
    assert corrected(summary) == "noise of restarts unknown"
    summary["mean_tau_corrected"] = -0.25
    assert corrected(summary) == "corrected -0.250"


def test_replications_are_drawn_by_their_tau(tmp_path):
    pool_tables(tmp_path, 24)
    replicate(tmp_path, 4)
    taus = read_table(tmp_path / "replications.csv", Replication)
    axis = Figure().add_subplot()
    draw_pool(axis, taus, read_table(tmp_path / "table.csv", TauDistribution).loc[0])
    points = np.column_stack([taus["tau"].sort_values(), range(1, 7)])
    np.testing.assert_allclose(axis.containers[0].lines[0].get_xydata(), points)
    assert "τ" in axis.get_xlabel() and "replications" in axis.get_ylabel()


def test_the_published_tau_is_placed_among_the_replications_by_a_count():
    taus = np.linspace(-0.2, 0.2, 5)

    def of(taus, tau):
        found = tau_distribution(taus, tau, 0.95, splits=ONE[: len(taus)])
        return place(found["percentile"], len(taus))

    places = [of(taus, tau) for tau in (-1, 0.05, 1)]
    assert places == ["below all 5", "above 3 of 5", "above all 5"]
    alone = np.array([0.1])
    places = [of(alone, tau) for tau in (0, 0.2)]
    assert places == ["below it", "above it"]
