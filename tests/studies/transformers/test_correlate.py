"""Who is left out and why, who stands out, and every correlation with its n."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from flatness.records.tables import read_table, write_table
from flatness.statistics.correlations import correlate as plain_correlate
from flatness.studies.transformers.correlate import (
    between_and_within,
    correlate_pair,
    place_models,
    robust_scores,
)
from flatness.studies.transformers.rows import MeasuredVit, PlacedVit, VitCorrelation
from studies.transformers.made_up_transformers import STATISTICS, correlate, measured_rows


@pytest.fixture
def measured(tmp_path):
    """Reads made-up rows back as a table."""

    def read(**changes):
        write_table(tmp_path / "rows.csv", measured_rows(**changes))
        return read_table(tmp_path / "rows.csv", MeasuredVit)

    return read


def test_every_model_has_a_row_and_those_left_out_a_reason(measured):
    table = measured(
        changes={
            0: {"untrained": True, "test_accuracy": 0.31},
            1: {"reliable": False, "average_case_sharpness_se": 1e9},
            2: {"average_case_sharpness": -1.0},
            3: {"reason": "loss not finite at step 7", "normalized_mls": math.nan},
        }
    )
    placed = place_models(table, "exact").set_index("model")
    assert len(placed) == len(table)
    assert placed.loc["vit_0", "reason"] == "untrained: test accuracy 31%"
    assert placed.loc["vit_1", "reason"].startswith("standard error 5% of normalized MLS, ")
    assert placed.loc["vit_2", "reason"] == "adaptive sharpness is negative: no logarithm"
    assert placed.loc["vit_3", "reason"] == "loss not finite at step 7"
    assert placed["used"].sum() == len(table) - 4
    assert not placed.loc[["vit_0", "vit_1", "vit_2", "vit_3"], "used"].any()
    assert placed["score"].isna().equals(~placed["used"])


def test_the_released_estimates_have_their_own_flags(measured):
    table = measured(changes={0: {"reliable_released": False}, 1: {"reliable": False}})
    exact, released = (
        place_models(table, name).set_index("model") for name in ("exact", "released")
    )
    assert (exact.loc["vit_0", "used"], exact.loc["vit_1", "used"]) == (True, False)
    assert (released.loc["vit_0", "used"], released.loc["vit_1", "used"]) == (False, True)
    assert (
        (released["normalized_mls"] / exact.loc[released.index, "normalized_mls"])
        .round(9)
        .eq(0.5)
        .all()
    )


def test_a_planted_cluster_is_found_with_its_corner(measured):
    """Two "fastvit" far below the line, two "mobilevit" and one "levit" far above."""
    table = measured(
        families={"vit": 12, "fastvit": 2, "mobilevit": 2, "levit": 3},
        shift={"fastvit_0": 1e-3, "fastvit_1": 2e-3, "mobilevit_0": 1e3, "mobilevit_1": 5e2}
        | {"levit_0": 1e3},
    )
    placed = place_models(table, "exact").set_index("model")
    out = placed[placed["outlier"]]
    assert set(out.index) == {"fastvit_0", "fastvit_1", "mobilevit_0", "mobilevit_1", "levit_0"}
    assert set(out[out["corner"] == "lower right"].index) == {"fastvit_0", "fastvit_1"}
    assert set(placed.index[placed["cluster"]]) == set(out.index) - {"levit_0"}
    assert placed.index.tolist() == table["model"].tolist()


def test_models_on_one_line_have_no_outlier(measured):
    table = measured(noise=0.0)
    placed = place_models(table, "exact")
    assert not placed["outlier"].any()
    assert robust_scores(placed[:2]).isna().all()


def test_correlations_over_all_and_within_families(tmp_path):
    correlate(
        tmp_path, families={"vit": 8, "levit": 5, "gcvit": 1}, changes={3: {"reliable": False}}
    )
    table = read_table(tmp_path / "correlations.csv", VitCorrelation)
    # estimators; groups, pairs, methods, families' scores, between and within families
    assert len(table) == 2 * (4 * 3 * 3 + 3 + 2 * 3 * 3)
    exact = table[(table["estimator"] == "exact") & (table["method"] == "kendall")]
    sharp = exact[
        (exact["x"] == "normalized_mls") & (exact["y"] == "average_case_sharpness")
    ].set_index("group")
    assert sharp["n"].to_dict() == {
        "all": 13, "gcvit": 1, "levit": 5, "vit": 7, "family means": 3, "within families": 2
    }  # fmt: skip
    assert sharp["excluded"].to_dict() == {
        "all": 1, "gcvit": 0, "levit": 0, "vit": 1, "family means": 0, "within families": 1
    }  # fmt: skip
    assert math.isnan(sharp.loc["gcvit", "estimate"])
    # Three families are too few for an interval over families, whatever their models.
    assert math.isnan(sharp.loc["all", "low"])


def test_between_and_within_families_are_told_apart():
    """Inside each of six families sharpness falls with MLS, over their means it rises."""
    rng = np.random.default_rng(2)
    inside = np.tile(np.linspace(-1, 1, 5), 6)
    between = 5 * np.repeat(rng.permutation(6), 5)
    points = pd.DataFrame({"family": np.repeat(list("abcdef"), 5)})
    points["normalized_mls"] = np.exp(between + inside)
    points["average_case_sharpness"] = np.exp(between - inside)
    points["test_loss"] = np.exp(rng.normal(size=30))
    found = pd.DataFrame(between_and_within(points, STATISTICS))
    found = found[(found["y"] == "average_case_sharpness") & (found["method"] == "kendall")]
    found = found.set_index("group")
    assert found["estimate"].to_dict() == {"family means": 1, "within families": -1}
    assert found["n"].to_dict() == {"family means": 6, "within families": 6}
    points.loc[points["family"] == "a", "average_case_sharpness"] = np.exp(inside[:5])
    rows = pd.DataFrame(between_and_within(points, STATISTICS))
    rows = rows[(rows["group"] == "within families") & (rows["method"] == "kendall")]
    first = rows[rows["y"] == "average_case_sharpness"].iloc[0]
    assert first["estimate"] == pytest.approx((1 - 5) / 6)
    half = stats.t.ppf(0.975, 5) * stats.sem([1, -1, -1, -1, -1, -1])
    assert first["low"] == pytest.approx(first["estimate"] - half)


def test_relatives_count_as_one():
    """Ten families that differ, each of five models that do not, say as much as ten models."""
    rng = np.random.default_rng(4)
    points = pd.DataFrame({"family": np.repeat(list("abcdefghij"), 5)})
    for name in ("normalized_mls", "average_case_sharpness"):
        points[name] = np.exp(rng.normal(size=10).repeat(5) + 0.01 * rng.normal(size=50))
    found = correlate_pair(points, *points.columns[1:], "pearson of logarithms", STATISTICS)
    one_each = correlate_pair(points[::5], *points.columns[1:], "pearson of logarithms", STATISTICS)
    assert found.estimate == pytest.approx(one_each.estimate, abs=0.02)
    assert found.high - found.low == pytest.approx(one_each.high - one_each.low, rel=0.1)


def test_a_familys_mean_score_says_on_which_side_of_the_line_it_lies(tmp_path):
    shift = {"fastvit_0": 1e-3, "fastvit_1": 2e-3, "mobilevit_0": 1e3, "mobilevit_1": 5e2}
    correlate(tmp_path, families={"vit": 12, "fastvit": 2, "mobilevit": 2}, shift=shift)
    table = read_table(tmp_path / "correlations.csv", VitCorrelation)
    scores = table[(table["method"] == "mean score") & (table["estimator"] == "exact")]
    scores = scores.set_index("group")
    placed = read_table(tmp_path / "models.csv", PlacedVit)
    own = placed[(placed["estimator"] == "exact") & (placed["family"] == "mobilevit")]["score"]
    assert scores.loc["mobilevit", "estimate"] == pytest.approx(own.mean())
    assert scores.loc["mobilevit", "low"] > 0 > scores.loc["fastvit", "high"]


def test_the_numbers_are_those_of_the_models_table(tmp_path):
    correlate(tmp_path, families={"vit": 9})
    placed = read_table(tmp_path / "models.csv", PlacedVit)
    used = placed[(placed["estimator"] == "exact") & placed["used"]]
    table = read_table(tmp_path / "correlations.csv", VitCorrelation).set_index(
        ["estimator", "group", "x", "y", "method"]
    )
    whole = table.sort_index().loc["exact", "all"]
    logarithms = plain_correlate(
        np.log(used["normalized_mls"]),
        np.log(used["average_case_sharpness"]),
        method="pearson",
        groups=used["family"] if used["family"].nunique() > 1 else None,
        resamples=STATISTICS.resamples,
        confidence=STATISTICS.confidence,
        seed=STATISTICS.seed,
    )
    found = whole.loc["normalized_mls", "average_case_sharpness", "pearson of logarithms"]
    assert found["estimate"] == pytest.approx(logarithms.estimate)
    assert found["low"] == pytest.approx(logarithms.low)
    loss = plain_correlate(
        used["average_case_sharpness"], used["test_loss"], method="kendall", resamples=200
    )
    found = whole.loc["average_case_sharpness", "test_loss", "kendall"]
    assert found["estimate"] == pytest.approx(loss.estimate)
