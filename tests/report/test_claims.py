from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from flatness.errors import UserError
from flatness.report.claims import (
    CLAIMS,
    Above,
    Below,
    Experiment,
    Finding,
    SameAsPublished,
    Within,
    read_claims,
)
from flatness.statistics.settings import Statistics
from flatness.studies.chen.after_interpolation import interpolated_changes
from flatness.studies.chen.contrasts import contrasts
from flatness.studies.chen.correlate import family_correlations
from flatness.studies.chen.effects import factor_effects
from flatness.studies.chen.measured_rows import (
    BoundTightness,
    Contrast,
    FactorEffect,
    FamilyCorrelation,
    InterpolatedChange,
    MeasuredCheckpoint,
)
from flatness.studies.chen.quantities import with_derived
from flatness.studies.epfl.rows import PoolCorrelation, TauDistribution
from flatness.studies.transformers.correlate import ESTIMATORS, METHODS, PAIRS, SCORE
from flatness.studies.transformers.rows import VitCorrelation
from made_up_results import made_up

SETTINGS = {(0.05, 20), (0.1, 20), (0.2, 20), (0.1, 8), (0.1, 32)}


@pytest.mark.parametrize(
    ("low", "high", "above", "below"),
    [
        (0.1, 0.5, "reproduced", "not reproduced"),
        (-0.5, -0.1, "not reproduced", "reproduced"),
        (-0.1, 0.5, "inconclusive", "inconclusive"),
        (0.0, 0.5, "inconclusive", "inconclusive"),
        (np.nan, np.nan, "inconclusive", "inconclusive"),
    ],
)
def test_the_whole_interval_decides(low, high, above, below):
    found = finding(low, high)
    assert Above(above=0).verdict(found, None) == above
    assert Below(below=0).verdict(found, None) == below


def test_the_limit_need_not_be_zero():
    found = finding(0.1, 0.3)
    assert Above(above=0.05).verdict(found, None) == "reproduced"
    assert Above(above=0.2).verdict(found, None) == "inconclusive"
    assert Above(above=0.4).verdict(found, None) == "not reproduced"
    assert Below(below=0.4).verdict(found, None) == "reproduced"


def test_a_published_value_outside_the_interval_is_met_in_sign_only():
    assert Below(below=0).verdict(finding(-0.6, -0.5), -0.55) == "reproduced"
    assert Below(below=0).verdict(finding(-0.6, -0.5), -0.2) == "in sign, not in size"
    assert Above(above=0).verdict(finding(0.5, 0.6), 0.2) == "in sign, not in size"
    assert Above(above=0).verdict(finding(-0.6, -0.5), 0.2) == "not reproduced"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.35, -0.25, "reproduced"),
        (-0.20, -0.10, "reproduced"),  # −0.3 of 50 models has a standard error of 0.09
        (-0.05, 0.05, "not reproduced"),
        (0.10, 0.20, "not reproduced"),  # no clause on the sign is needed
        (-0.40, -0.10, "inconclusive"),  # ours is known too badly to call them alike
        (0.10, 0.50, "not reproduced"),  # however badly
        (np.nan, np.nan, "inconclusive"),
    ],
)
def test_two_taus_are_compared_with_the_errors_of_both(low, high, verdict):
    test = SameAsPublished(published_models=50, widest=0.15)
    assert test.verdict(finding(low, high), -0.3) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.81, 1.24, "reproduced"),
        (0.79, 1.1, "inconclusive"),
        (0.5, 1.5, "inconclusive"),
        (1.26, 2.0, "not reproduced"),
        (-0.1, 0.79, "not reproduced"),
        (np.nan, np.nan, "inconclusive"),
    ],
)
def test_a_size_is_as_published_up_to_a_factor(low, high, verdict):
    test = Within(within=1.25)
    assert test.verdict(finding(low, high), None) == verdict
    assert np.isnan(test.p_value(finding(low, high), None))


def test_the_error_of_the_published_tau_is_fiellers():
    """Where ours has none, z is the difference over √(.437 / (n − 4)) on Fisher's scale."""
    test = SameAsPublished(published_models=50, widest=0.15)
    expected = (0 - np.arctanh(-0.3)) / np.sqrt(0.437 / 46)
    p = test.p_value(finding(-1e-9, 1e-9), -0.3)
    assert p == pytest.approx(2 * stats.norm.sf(expected))
    few = SameAsPublished(published_models=10, widest=0.15)
    assert few.verdict(finding(-0.01, 0.01), -0.3) == "reproduced"


def finding(low, high, p_value=0.01):
    return Finding((low + high) / 2, low, high, p_value)


@pytest.mark.parametrize("verdict", ["reproduced", "not reproduced"])
def test_every_claim_can_come_out_either_way(verdict):
    """There is a finding that reproduces each claim, and one that does not."""
    claims = read_claims().claims
    assert len(claims) >= 60
    for claim in claims:
        near = claim.published or -0.9
        findings = [finding(at - 0.01, at + 0.01) for at in (-0.9, 0.9, near)]
        assert verdict in {claim.expect.verdict(f, claim.published) for f in findings}, claim.id


GRID = Experiment(dataset="cifar10", images=10_000, steps=750_000, models=100)


@pytest.mark.parametrize(
    ("row", "n", "small"),
    [
        ({"dataset": "cifar10", "train_size": "10000", "steps": "100000"}, 100, False),
        ({"dataset": "cifar10", "train_size": "900", "steps": "100000"}, 100, True),
        ({"dataset": "cifar10", "train_size": "10000", "steps": "30000"}, 100, True),
        ({"dataset": "cifar10", "train_size": "10000", "steps": "100000"}, 19, True),
        ({"dataset": "digits32", "train_size": "10000", "steps": "100000"}, 100, True),
        ({"dataset": "cifar10"}, 100, False),  # what the table does not say is not held against it
    ],
)
def test_small_scale_is_of_images_steps_models_or_data(row, n, small):
    shares = GRID.shares(row, n)
    assert GRID.is_larger(row, shares) == small
    assert shares["models"] == n / 100
    assert np.isnan(shares["images"]) == ("train_size" not in row)


def test_a_repeated_claim_names_the_original():
    claims = {claim.id: claim for claim in read_claims().claims}
    repeating = [claim for claim in claims.values() if claim.repeats]
    assert len(repeating) >= 10
    assert not any(claims[claim.repeats].repeats for claim in repeating)


ROWS = {
    "correlations/chen/*/correlations.csv": FamilyCorrelation,
    "correlations/chen/*/bounds.csv": BoundTightness,
    "correlations/chen/*/contrasts.csv": Contrast,
    "correlations/chen/*/effects.csv": FactorEffect,
    "correlations/chen/*/changes.csv": InterpolatedChange,
    "correlations/replications/*/*/*/distribution.csv": TauDistribution,
    "correlations/epfl/*/*/*/correlations.csv": PoolCorrelation,
    "correlations/transformers/correlations.csv": VitCorrelation,
}


def test_claims_name_columns_that_their_tables_have():
    claims = read_claims()
    checked = 0
    for entry in (*claims.claims, *claims.checks):
        for pattern, row in ROWS.items():
            if Path(entry.table).match(pattern):
                own = ("n", "estimate", "low", "high", "p_value", "zero")
                named = {getattr(entry, name) for name in own if hasattr(entry, name)}
                assert {*named, *entry.where} <= set(row.model_fields), entry.id
                checked += 1
    assert checked >= 30


def test_every_claim_about_a_family_selects_one_row_of_what_the_study_computes(family_rows):
    for claim in read_claims().claims:
        if claim.table.startswith("correlations/chen/"):
            rows = family_rows[claim.table.split("/")[-1]]
            fits = [
                row
                for row in rows
                if all(row[name] == value for name, value in claim.where.items())
            ]
            assert len(fits) == 1, claim.id


@pytest.fixture(scope="module")
def family_rows():
    """Correlations and contrasts of a family of noise: every column is random."""
    rng = np.random.default_rng(0)
    numbers = [n for n, f in MeasuredCheckpoint.model_fields.items() if f.annotation is float]
    table = pd.DataFrame(
        made_up(
            MeasuredCheckpoint,
            setting=f"lr{rate:g}_batch{size}", learning_rate=rate, batch_size=size, seed=seed,
            step=step, last=step == 4, sampled=sampled, interpolated=step > 1,
            **{n: rng.uniform(1, 2) for n in numbers if n not in ("learning_rate", "train_loss")},
            train_loss=10.0 ** -(1 + step),
        ).model_dump()
        for rate, size in sorted(SETTINGS) for seed in range(2) for step in range(5)
        for sampled in ("train", "test")
    )  # fmt: skip
    table = with_derived(table)
    few = Statistics(resamples=100, confidence=0.95, seed=0)
    return {
        "correlations.csv": list(family_correlations(table, few)),
        "contrasts.csv": list(contrasts(table, few)),
        "effects.csv": list(factor_effects(table, few)),
        "changes.csv": list(interpolated_changes(table, few)),
    }


def test_claims_about_transformers_are_of_what_that_study_computes():
    claims = [c for c in read_claims().claims if c.table.startswith("correlations/transformers")]
    assert claims
    for claim in claims:
        assert claim.where["estimator"] in ESTIMATORS
        assert claim.where["method"] in (*METHODS, SCORE)
        assert claim.where["method"] == SCORE or (claim.where["x"], claim.where["y"]) in PAIRS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expect": {"above": "much"}}, "claims fig3-mls-lenet5.expect"),
        ({"expect": {"published_models": 50, "widest": 0.15}}, "needs a published value"),
        ({"experiment": "mlp"}, "no experiment mlp"),
        ({"repeats": "tau-mlp"}, "repeats tau-mlp, which is not a claim"),
        ({"table": "../secret.csv"}, "below results"),
        ({"table": "/secret.csv"}, "below results"),
        ({"paper": "other"}, "claims fig3-mls-lenet5.paper"),
        ({"colour": "red"}, "claims fig3-mls-lenet5.colour"),
        ({"id": "tau-gat"}, "ids used more than once: tau-gat"),
    ],
)
def test_a_wrong_claim_is_refused_in_one_line(tmp_path, change, message):
    values = yaml.safe_load(CLAIMS.read_text(encoding="utf-8"))
    values["claims"][0] |= change
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read_claims(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["claims: [", None])
def test_unreadable_claims_are_named(tmp_path, text):
    path = tmp_path / "claims.yaml"
    if text:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="cannot be read"):
        read_claims(path)
