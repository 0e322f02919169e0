import math

import pytest
from rich.console import Console

import made_up_results
from flatness.report.claims import read_claims
from flatness.report.ledger import evaluate
from flatness.report.summary import (
    cells,
    counts_line,
    decidable,
    found_lines,
    ledger_table,
    print_summary,
    trained_lines,
    value_text,
)
from flatness.terminal import WIDTH


def test_an_empty_run_says_so_without_a_table(tmp_path, capsys):
    print_summary(tmp_path)
    shown = capsys.readouterr().out
    shown = " ".join(shown.split())
    assert "0 reproduced, 0 in sign, not in size, 0 not reproduced, 0 inconclusive" in shown
    assert f"{len(read_claims().claims)} not run here" in shown
    assert "verdict" not in shown


def test_a_run_shows_claims_counts_left_out_models_and_where_to_look(tmp_path, capsys):
    made_up_results.pool(tmp_path, lost=(3,), demo=True)
    made_up_results.family(tmp_path, "mlp_relu", violations=2, steps=7500)
    made_up_results.picture(tmp_path, "epfl_fig1")
    (tmp_path / "report.html").touch()
    (tmp_path / "explore.html").touch()
    print_summary(tmp_path)
    shown = capsys.readouterr().out
    assert "DEMO DATA" in shown
    assert "tau-fcnn" in shown
    assert "-0.30 [-0.50, -0.10]" in shown
    assert "2 violations" in shown
    assert (
        "1 reproduced, 0 in sign, not in size, 0 not reproduced, 1 not reproduced at small scale"
        in " ".join(shown.split())
    )
    assert "not reproduced◦" in shown and "◦ at small scale" in shown
    assert "2 models left out" in shown
    assert "seed 3: the loss became nan in epoch 2" in shown
    assert f"1 figures in {tmp_path / 'figures'}/" in shown
    assert f"report: {tmp_path / 'report.html'}" in shown
    assert str(tmp_path / "explore.html") in shown
    assert "make laptop" in shown


def test_the_sentences_follow_from_the_verdicts(tmp_path):
    made_up_results.pool(tmp_path)
    made_up_results.pool(tmp_path, "gat", tau=0.4, low=0.2, high=0.6)
    made_up_results.family(tmp_path, "mlp_relu", violations=2)

    def sentences():
        lines = found_lines(evaluate(read_claims(), tmp_path, "abc1234"))
        return {line.split(":")[0]: line for line in lines}

    first = sentences()
    found = next(line for line in first.values() if "adaptive sharpness" in line)
    assert "1 came out as claimed, such as τ(sharpness, loss) < 0, FCNN: -0.30 [-0.50" in found
    assert "1 came out the other way, such as τ(sharpness, loss) < 0, GAT: +0.40 [+0.20" in found
    assert any("violated in 2 of" in line for line in first.values())
    assert not any("demo data" in line for line in first.values())
    made_up_results.pool(tmp_path, tau=0.3, low=0.1, high=0.5)
    assert any("0 came out as claimed; 2 came out the other way" in s for s in sentences().values())


def test_networks_are_counted_once_where_a_part_of_a_block_was_taken(tmp_path):
    for block, seeds in (("0-3", range(4)), ("0-1", range(2)), ("4-5", (4, 5))):
        made_up_results.trained(tmp_path, "gat", "written", block, seeds)
    made_up_results.trained(tmp_path, "gat", "released", "0-1", range(2))
    assert trained_lines(tmp_path) == ["trained: 8 in pools (8 gat)"]
    assert trained_lines(tmp_path / "nowhere") == []


def test_claims_that_nothing_could_settle_are_counted_not_listed(tmp_path):
    made_up_results.pool(tmp_path, low=math.nan, high=math.nan)
    outcomes = evaluate(read_claims(), tmp_path, "abc1234")
    assert "1 of the inconclusive" in counts_line(outcomes)
    assert not any(decidable(outcome) for outcome in outcomes)


@pytest.mark.parametrize("n", [50, 50_000])
def test_every_claim_fits_one_line_of_the_terminal(tmp_path, n):
    claims = read_claims()
    values = {"estimate": -0.5, "low": -0.7, "high": -0.3, "n": n, "verdict": "not reproduced"}
    outcomes = [o.model_copy(update=values) for o in evaluate(claims, tmp_path, "abc1234")]
    console = Console(width=WIDTH)
    with console.capture() as capture:
        console.print(ledger_table(outcomes))
    lines = capture.get().splitlines()
    for outcome in outcomes:
        line = next(line for line in lines if line.startswith(f"{outcome.id} "))
        assert all(cell in line for cell in cells(outcome))


def test_a_correlation_of_too_few_is_called_undefined(tmp_path):
    made_up_results.pool(tmp_path, tau=math.nan, low=math.nan, high=math.nan)
    [found] = [o for o in evaluate(read_claims(), tmp_path, "") if o.id == "tau-fcnn"]
    assert value_text(found) == "undefined"
    assert found.verdict == "inconclusive"


def test_a_value_without_an_interval_says_so(tmp_path):
    outcome = evaluate(read_claims(), tmp_path, "abc1234")[0]
    values = {"estimate": 0.5, "low": math.nan, "high": math.nan, "verdict": "inconclusive"}
    assert value_text(outcome.model_copy(update=values)) == "+0.50, no interval"


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [(0.0024, 0.0026, "+0.0025 [+0.0024, +0.0026]"), (-0.01, 0.01, "+0.00 [-0.01, +0.01]")],
)
def test_a_small_ratio_is_not_shown_as_zero(tmp_path, low, high, shown):
    outcome = evaluate(read_claims(), tmp_path, "abc1234")[0]
    values = {"estimate": 0.0025, "low": low, "high": high, "verdict": "not reproduced"}
    assert value_text(outcome.model_copy(update=values)) == shown
