import math

import pytest

from checkout import ROOT
from flatness.pipeline.reference.readme import MARKS, ledger_markdown, show_ledger
from flatness.records.tables import read_table, write_table
from flatness.report.claims import read_claims
from flatness.report.ledger import Outcome, evaluate
from made_up_results import family, pool

LEDGER = ROOT / "results/reference/laptop/report/claims.csv"
SCALE = ROOT / "results/reference/scale/report/claims.csv"


@pytest.fixture
def ledger(tmp_path):
    pool(tmp_path)
    family(tmp_path)
    path = tmp_path / "claims.csv"
    write_table(path, evaluate(read_claims(), tmp_path, "abc"))
    return path


def test_claims_and_checks_have_a_table_each_with_those_not_run(ledger):
    claims, checks = ledger_markdown(ledger, ledger.with_name("none.csv")).split(
        "Theorems and checks, which do not count as"
    )
    assert (
        "| τ(sharpness, loss) < 0, FCNN | -0.311 | -0.30 [-0.50, -0.10] | 50 | reproduced |  |"
        in claims
    )
    assert "| τ(sharpness, loss) < 0, GAT | -0.185 |  |  | not run here |  |" in claims
    study = read_claims()
    again = sum(bool(claim.repeats) for claim in study.claims)
    assert claims.startswith(f"{len(study.claims)} claims ({again} repeat another): 2 reproduced, ")
    assert f"{len(study.claims) - 2} not run here" in claims
    assert "2 of 2 decided by a test stand after Holm's correction for 2" in claims
    assert claims.count("\n| ") == 1 + len(study.claims)  # the heading besides
    assert "violations" not in claims
    assert checks.count("\n| ") == 1 + len(study.checks)
    assert checks.count("| 0 violations |") == 1


def test_a_larger_run_is_shown_beside_where_it_has_an_interval(ledger):
    outcomes = {row["id"]: row for row in read_table(ledger, Outcome).to_dict("records")}
    found = outcomes["tau-fcnn"]

    def shown():
        larger = ledger.with_name("larger.csv")
        write_table(larger, [Outcome(**row) for row in outcomes.values()])
        return ledger_markdown(ledger, larger).split("Theorems and checks")[0]

    assert ", n = " not in shown(), "the same models, shown twice"
    found |= {"estimate": -0.4}
    assert "| 50 | reproduced | -0.40 [-0.50, -0.10], n = 50: reproduced |" in shown()
    assert "In the larger run: 1 claims (1 repeat another): 1 reproduced" in shown()
    found |= {"low": math.nan, "high": math.nan, "verdict": "inconclusive"}
    assert ", n = " not in shown(), "too few for an interval"


def test_only_what_is_between_the_marks_is_replaced(ledger, tmp_path):
    page = tmp_path / "README.md"
    page.write_text(f"before\n{MARKS[0]}\nstale\n{MARKS[1]}\nafter\n", encoding="utf-8")
    for _ in range(2):
        show_ledger(page, ledger, ledger)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("after\n")
    assert "stale" not in text and text.count("| claim |") == 1 == text.count(
        "| theorem or check |"
    )


@pytest.mark.skipif(not LEDGER.exists(), reason="no reference run is kept")
def test_the_readme_shows_the_kept_ledger():
    assert ledger_markdown(LEDGER, SCALE) in (ROOT / "README.md").read_text(encoding="utf-8")
