import math

import pytest
from scipy.stats import kendalltau

from flatness.records.tables import read_table
from flatness.studies.cross.correlate import with_q_values
from flatness.studies.cross.measures import COMPRESSION, LOSSES, NOT_DEFINED
from flatness.studies.cross.rows import CrossCorrelation, CrossModel
from studies.cross.made_up_tables import LOST, correlated


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    models, correlations = correlated(tmp_path_factory.mktemp("cross"))
    return read_table(models, CrossModel), read_table(correlations, CrossCorrelation)


def row(correlations, **where):
    for name, value in where.items():
        correlations = correlations[correlations[name] == value]
    assert len(correlations) == 1
    return correlations.iloc[0]


def test_benjamini_and_hochbergs_q_by_hand():
    """p = .01, .03, .04, .5 of four tests: 4p/1, then the least of 4p/2 and 4p/3, 4p/3, 4p/4."""
    rows = [{"p_value": p} for p in (0.03, 0.5, math.nan, 0.01, 0.04)]
    q = [line["q_value"] for line in with_q_values(rows)]
    assert q[:2] == pytest.approx([0.16 / 3, 0.5])
    assert math.isnan(q[2])
    assert q[3:] == pytest.approx([0.04, 0.16 / 3])


def test_every_model_has_a_row_of_every_measure(tables):
    models, _ = tables
    sizes = models.groupby(["study", "models"]).size().to_dict()
    assert sizes == {("chen", "mlp_relu"): 25 * 11, ("epfl", "gat"): 6 * 11}
    lost = models[(models["setting"] == LOST[0]) & (models["seed"] == LOST[1])]
    assert set(lost["status"]) == {"diverged"} and lost["value"].isna().all()
    used = models[models["status"] == "used"]
    assert used["loss_gap"].tolist() == (used["test_loss"] - used["train_loss"]).tolist()
    undefined = models[models["status"] == "not defined"]
    assert (undefined["reason"] != "").all()


def test_root_sharpness_takes_the_place_of_sharpness(tables):
    models, _ = tables
    assert "sharpness" not in set(models["measure"])
    gat = models[(models["models"] == "gat") & (models["measure"] == "root_sharpness")]
    first = gat[gat["seed"] == 0].iloc[0]
    assert first["value"] == pytest.approx(math.sqrt(2))
    assert first["standard_error"] == pytest.approx(0.5 / (2 * math.sqrt(2)))


def test_coefficients_are_over_the_models_used(tables):
    models, correlations = tables
    for measure, loss in (("mls", "test_loss"), ("worst_case_strong", "loss_gap")):
        used = models[(models["models"] == "mlp_relu") & (models["measure"] == measure)]
        used = used[used["status"] == "used"]
        expected = kendalltau(used["value"], used[loss])
        found = row(correlations, models="mlp_relu", measure=measure, loss=loss, method="kendall")
        assert found["estimate"] == pytest.approx(expected.statistic)
        assert (found["n"], found["excluded"]) == (24, 1)
        assert found["reasons"] == "1 × diverged: training loss not finite by step 100"


def test_a_pools_own_sharpness_is_named_by_its_protocol(tables):
    models, correlations = tables
    found = row(
        correlations, models="gat", measure="worst_case_written", loss="loss_gap", method="pearson"
    )
    assert (found["study"], found["dataset"], found["n"]) == ("epfl", "sbm", 5)
    assert "worst_case_strong" not in set(models.loc[models["study"] == "epfl", "measure"])


def test_what_has_no_coefficient_says_why_and_is_no_test(tables):
    _, correlations = tables
    gat = correlations[correlations["models"] == "gat"]
    for measure, reason in {
        "nmls": "5 × not defined: no definition",
        "log_volume_top3": "5 × not defined: its value is -inf for this model",
    }.items():
        found = row(gat, measure=measure, loss="loss_gap", method="kendall")
        assert math.isnan(found["estimate"]) and math.isnan(found["q_value"])
        assert found["n"] == 0 and reason in found["reasons"]
    same = row(gat, measure="root_sharpness", loss="loss_gap", method="kendall")
    assert "the measure is the same for all models" in same["reasons"]
    tested = correlations["p_value"].notna()
    assert (tested == correlations["q_value"].notna()).all()
    assert (correlations["q_value"][tested] >= correlations["p_value"][tested]).all()


def test_every_measure_and_loss_has_a_row_for_every_set(tables):
    _, correlations = tables
    assert len(correlations) == 2 * 11 * len(LOSSES) * 2
    for models in ("mlp_relu", "gat"):
        names = set(correlations.loc[correlations["models"] == models, "measure"])
        assert set(COMPRESSION) - {"sharpness"} < names
    assert set(NOT_DEFINED["gat"]) <= names
