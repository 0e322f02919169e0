import math
import subprocess

import pytest

import made_up_results
from flatness.errors import DataError, UserError
from flatness.report.claims import read_claims
from flatness.report.ledger import commit_of, decided, evaluate, stands, tally
from flatness.report.summary import counts_line, found_lines, holm_line

#: Claims that some tests count; what someone adds to the file does not matter to them.
COUNTED = ("fig3-mls-vgg11", "abs-mls-vgg11", "tau-fcnn", "mean-tau-fcnn")


def counted():
    """The file's claims without others that the made-up tables decide."""
    known = read_claims()
    chosen = tuple(claim for claim in known.claims if claim.id in COUNTED)
    assert len(chosen) == len(COUNTED)
    return known.model_copy(update={"claims": chosen})


def ledger(results):
    return {outcome.id: outcome for outcome in evaluate(read_claims(), results, "abc1234")}


def test_without_tables_nothing_was_run(tmp_path):
    outcomes = evaluate(read_claims(), tmp_path, "abc1234")
    assert {outcome.verdict for outcome in outcomes} == {"not run here"}
    assert tally(outcomes)["not run here"] == len(read_claims().claims)


def test_a_claim_takes_its_row(tmp_path):
    made_up_results.pool(tmp_path, tau=-0.3, low=-0.5, high=-0.1, lost=(3, 9))
    found = ledger(tmp_path)["tau-fcnn"]
    assert found.verdict == "reproduced"
    assert (found.estimate, found.low, found.high) == (-0.3, -0.5, -0.1)
    assert (found.n, found.excluded, found.interpolating) == (48, 2, -1)
    assert found.published == -0.311
    assert found.fixed_in == "abc1234"
    assert not found.demo


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.5, -0.1, "reproduced"), (0.1, 0.5, "not reproduced"), (-0.1, 0.1, "inconclusive")],
)
def test_verdicts_reach_the_ledger(tmp_path, low, high, verdict):
    made_up_results.pool(tmp_path, tau=(low + high) / 2, low=low, high=high)
    assert ledger(tmp_path)["tau-fcnn"].verdict == verdict


@pytest.mark.parametrize(
    ("mean", "reach", "sign", "alike"),
    [
        (-0.3, 0.05, "reproduced", "reproduced"),
        (-0.2, 0.05, "in sign, not in size", "reproduced"),
        (-0.05, 0.02, "in sign, not in size", "not reproduced"),
        (0.2, 0.05, "not reproduced", "not reproduced"),
        (-0.3, 0.1, "reproduced", "inconclusive"),
        (-0.2, float("nan"), "inconclusive", "inconclusive"),
    ],
    ids=["near", "smaller", "far", "other sign", "wide", "one replication"],
)
def test_replications_are_judged_by_their_mean(tmp_path, mean, reach, sign, alike):
    made_up_results.replications(tmp_path, mean=mean, reach=reach)
    found = ledger(tmp_path)
    assert found["mean-tau-fcnn"].verdict == sign
    assert found["likely-tau-fcnn"].verdict == alike
    assert found["mean-tau-fcnn"].n == 20


def test_a_verdict_at_small_scale_is_never_counted_as_plain(tmp_path):
    made_up_results.family(tmp_path, "vgg11", estimate=-0.6, low=-0.8, high=-0.4, steps=7500)
    found = ledger(tmp_path)["fig3-mls-vgg11"]
    assert found.small_scale and found.verdict == "not reproduced"
    assert (found.share_images, found.share_steps, found.share_models) == (1, 0.01, 0.97)
    counts = tally(evaluate(read_claims(), tmp_path, ""))
    assert counts["not reproduced"] == 0
    assert counts["not reproduced at small scale"] == 1


def test_holm_corrects_for_every_claim_that_was_run(tmp_path):
    made_up_results.pool(tmp_path)  # p = .01
    made_up_results.family(tmp_path, "vgg11")  # p = 1e-6
    outcomes = evaluate(counted(), tmp_path, "")
    found = {outcome.id: outcome for outcome in outcomes}
    assert found["fig3-mls-vgg11"].p_holm == pytest.approx(2e-6)
    assert found["tau-fcnn"].p_holm == pytest.approx(0.01)
    assert math.isnan(found["abs-mls-vgg11"].p_holm)
    assert [o.id for o in decided(outcomes)] == ["fig3-mls-vgg11", "tau-fcnn"]
    made_up_results.replications(tmp_path, mean=-0.3)
    outcomes = evaluate(counted(), tmp_path, "")
    assert {o.id: stands(o) for o in decided(outcomes)} == {
        "fig3-mls-vgg11": True, "tau-fcnn": True, "mean-tau-fcnn": True
    }  # fmt: skip
    many = [o.model_copy(update={"p_holm": 0.06}) for o in outcomes]
    assert not any(map(stands, many))


def test_counts_are_of_claims_only(tmp_path):
    made_up_results.pool(tmp_path)
    made_up_results.family(tmp_path, "vgg11")
    outcomes = evaluate(counted(), tmp_path, "")
    assert ledger(tmp_path)["theorems-vgg11"].verdict == "holds"
    counts = tally(outcomes)
    assert counts["reproduced"] == 2
    assert sum(counts.values()) == len(COUNTED)


def test_a_pool_says_its_share_of_the_training_images(tmp_path):
    made_up_results.pool(tmp_path)
    made_up_results.replications(tmp_path)
    found = ledger(tmp_path)
    assert found["tau-fcnn"].share_images == found["mean-tau-fcnn"].share_images == 1


def test_demo_data_are_marked(tmp_path):
    made_up_results.pool(tmp_path, demo=True)
    assert ledger(tmp_path)["tau-fcnn"].demo


def test_a_row_that_is_not_in_its_table_was_not_run(tmp_path):
    made_up_results.family(tmp_path, "vgg11")
    assert ledger(tmp_path)["fig3-mls-vgg11"].verdict == "reproduced"
    assert ledger(tmp_path)["fig3-mls-vgg11"].reason == ""
    absent = ledger(tmp_path)["abs-mls-vgg11"]
    assert absent.verdict == "not run here"
    assert absent.reason == "no row of its table has x = root_sharpness; there are mls"
    assert ledger(tmp_path)["tau-fcnn"].reason == "this run has no such table"


def test_own_claims_do_not_count_with_the_papers(tmp_path):
    made_up_results.pool(tmp_path)  # p = .01
    made_up_results.family(tmp_path, "vgg11")  # p = 1e-6
    known = read_claims()
    theirs = next(claim for claim in known.claims if claim.id == "tau-fcnn")
    own = theirs.model_copy(update={"id": "mine", "paper": "own"})
    claims = known.model_copy(update={"claims": (*known.claims, own)})
    outcomes = evaluate(claims, tmp_path, "")
    found = {outcome.id: outcome for outcome in outcomes}
    assert (found["mine"].kind, found["mine"].verdict) == ("own claim", found["tau-fcnn"].verdict)
    assert found["mine"].p_holm == found["mine"].p_value
    without = evaluate(known, tmp_path, "")
    assert tally(outcomes) == tally(without)
    assert counts_line(outcomes) == counts_line(without)
    assert holm_line(outcomes) == holm_line(without)
    assert found_lines(outcomes)[:3] == found_lines(without)[:3]
    assert any(line.startswith("- Own claims: of 1 claims") for line in found_lines(outcomes))
    assert found["fig3-mls-vgg11"].p_holm == pytest.approx(2e-6)


def test_a_violated_theorem_is_found_and_a_heuristic_is_none(tmp_path):
    made_up_results.family(tmp_path, "vgg11", violations=2)
    found = ledger(tmp_path)["theorems-vgg11"]
    assert (found.verdict, found.estimate, found.n) == ("violated", 2, 200)


def test_two_rows_for_one_claim_are_refused(tmp_path):
    made_up_results.pool(tmp_path)
    path = tmp_path / "correlations/epfl/fcnn/written/written/correlations.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines, lines[1]]), encoding="utf-8")
    with pytest.raises(UserError, match="tau-fcnn: 2 rows"):
        ledger(tmp_path)


def test_a_missing_column_is_named(tmp_path):
    made_up_results.pool(tmp_path)
    path = tmp_path / "correlations/epfl/fcnn/written/written/correlations.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(",tau,", ",tao,"), encoding="utf-8")
    with pytest.raises(UserError, match=r"tau-fcnn: .*correlations.csv has no column tau"):
        ledger(tmp_path)


@pytest.mark.parametrize("damage", [lambda text: "", lambda text: text.replace("-0.3,", "x,")])
def test_a_damaged_table_is_named(tmp_path, damage):
    made_up_results.pool(tmp_path, tau=-0.3)
    path = tmp_path / "correlations/epfl/fcnn/written/written/correlations.csv"
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(DataError, match=r"epfl/fcnn/written/written/correlations\.csv: "):
        ledger(tmp_path)


def test_the_commit_is_the_last_that_changed_the_file(tmp_path):
    def git(*arguments):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=True
        )
        return done.stdout.strip()

    path = tmp_path / "claims.yaml"
    path.write_text("one", encoding="utf-8")
    assert commit_of(path) == "unknown"
    git("init", "-q")
    assert commit_of(path) == "unknown"
    git("add", "claims.yaml")
    git("commit", "-qm", "claims")
    fixed = git("rev-parse", "--short", "HEAD")
    git("commit", "-qm", "more", "--allow-empty")
    assert commit_of(path) == fixed
    path.write_text("two", encoding="utf-8")
    assert commit_of(path) == f"{fixed} and changed since"
