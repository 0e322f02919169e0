import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from flatness.errors import UserError
from flatness.report.claims import (
    CLAIMS,
    VERDICTS,
    Above,
    Below,
    Finding,
    PublishedWithin,
    read_claims,
)
from flatness.statistics.settings import Statistics
from flatness.studies.chen.contrasts import contrasts
from flatness.studies.chen.correlate import over_models
from flatness.studies.chen.measured_rows import (
    BoundTightness,
    FamilyCorrelation,
    MeasuredCheckpoint,
)
from flatness.studies.chen.quantities import last_on_train, with_derived
from flatness.studies.chen.within_groups import over_checkpoints
from flatness.studies.epfl.rows import PoolCorrelation
from flatness.studies.transformers.correlate import ESTIMATORS, METHODS, PAIRS
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
    found = Finding(low, high, {})
    assert Above(above=0).verdict(found, None) == above
    assert Below(below=0).verdict(found, None) == below


def test_the_limit_need_not_be_zero():
    found = Finding(0.1, 0.3, {})
    assert Above(above=0.05).verdict(found, None) == "reproduced"
    assert Above(above=0.2).verdict(found, None) == "inconclusive"
    assert Above(above=0.4).verdict(found, None) == "not reproduced"
    assert Below(below=0.4).verdict(found, None) == "reproduced"


@pytest.mark.parametrize(
    ("mean", "predictive", "verdict"),
    [
        ((-0.20, -0.10), (-0.4, 0.1), "reproduced"),
        ((-0.20, -0.10), (-0.25, 0.1), "not reproduced"),  # the published −0.3 lies outside
        ((0.02, 0.10), (-0.4, 0.4), "not reproduced"),  # inside, but of the other sign
        ((-0.05, 0.05), (-0.4, 0.4), "inconclusive"),  # our sign is open
        ((-0.30, -0.10), (-0.4, 0.1), "inconclusive"),  # our interval is too wide
        ((-0.30, -0.10), (-0.1, 0.1), "inconclusive"),
        ((np.nan, np.nan), (-0.4, 0.1), "inconclusive"),
        ((-0.20, -0.10), (np.nan, np.nan), "inconclusive"),
    ],
)
def test_a_published_value_must_be_a_likely_one(mean, predictive, verdict):
    test = PublishedWithin(published_within=("a", "b"), widest=0.15)
    cells = dict(zip("ab", map(str, predictive), strict=True))
    assert test.verdict(Finding(*mean, cells), -0.3) == verdict


def test_a_published_value_that_is_positive_is_judged_alike():
    test = PublishedWithin(published_within=("a", "b"), widest=0.15)
    cells = {"a": "-0.1", "b": "0.4"}
    assert test.verdict(Finding(0.1, 0.2, cells), 0.3) == "reproduced"
    assert test.verdict(Finding(-0.2, -0.1, cells), 0.3) == "not reproduced"


@pytest.mark.parametrize("verdict", VERDICTS[:2])
def test_every_claim_can_come_out_either_way(verdict):
    """There is a finding that reproduces each claim, and one that does not."""
    claims = read_claims().claims
    assert len(claims) >= 15
    for claim in claims:
        findings = [
            Finding(centre - 0.01, centre + 0.01, dict.fromkeys(claim_columns(claim), str(limit)))
            for centre, limit in itertools.product((-0.9, 0.9), (-0.9, 0.9))
        ]
        if isinstance(claim.expect, PublishedWithin):
            low, high = claim.expect.published_within
            findings += [Finding(-0.2, -0.1, {low: "-0.9", high: "0.9"})]
        verdicts = {claim.expect.verdict(found, claim.published) for found in findings}
        assert verdict in verdicts, claim.id


def claim_columns(claim):
    return claim.expect.published_within if isinstance(claim.expect, PublishedWithin) else ()


ROWS = {
    "correlations/chen/*/correlations.csv": FamilyCorrelation,
    "correlations/chen/*/bounds.csv": BoundTightness,
    "correlations/epfl/*/*/*/correlations.csv": PoolCorrelation,
    "correlations/transformers/correlations.csv": VitCorrelation,
}


def test_claims_name_columns_that_their_tables_have():
    claims = read_claims()
    checked = 0
    for entry in (*claims.claims, *claims.checks):
        for pattern, row in ROWS.items():
            if Path(entry.table).match(pattern):
                own = ("n", "estimate", "low", "high", "zero")
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
            held = {"learning_rate": "batch size 20", "batch_size": "learning rate 0.1"}
            if claim.where.get("x") in held:
                assert fits[0]["over"] == f"models at {held[claim.where['x']]}"


@pytest.fixture(scope="module")
def family_rows():
    """Correlations and contrasts of a family of noise: every column is random."""
    rng = np.random.default_rng(0)
    numbers = [n for n, f in MeasuredCheckpoint.model_fields.items() if f.annotation is float]
    table = pd.DataFrame(
        made_up(
            MeasuredCheckpoint,
            setting=f"lr{rate:g}_batch{size}", learning_rate=rate, batch_size=size, seed=seed,
            step=step, last=step == 4, sampled="train",
            **{n: rng.uniform(1, 2) for n in numbers if n != "learning_rate"},
        ).model_dump()
        for rate, size in sorted(SETTINGS) for seed in range(2) for step in range(5)
    )  # fmt: skip
    table = with_derived(table)
    few = Statistics(resamples=100, confidence=0.95, seed=0)
    return {
        "correlations.csv": [
            *over_models(last_on_train(table), few),
            *over_checkpoints(table, few),
        ],
        "contrasts.csv": list(contrasts(table, few)),
    }


def test_claims_about_transformers_are_of_what_that_study_computes():
    claims = [c for c in read_claims().claims if c.table.startswith("correlations/transformers")]
    assert claims
    for claim in claims:
        assert claim.where["estimator"] in ESTIMATORS
        assert (claim.where["x"], claim.where["y"]) in PAIRS
        assert claim.where["method"] in METHODS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expect": {"above": "much"}}, "claims.0.expect"),
        ({"expect": {"published_within": ["a", "b"], "widest": 0.15}}, "needs a published value"),
        ({"table": "../secret.csv"}, "below results"),
        ({"table": "/secret.csv"}, "below results"),
        ({"paper": "other"}, "claims.0.paper"),
        ({"colour": "red"}, "claims.0.colour"),
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
