import math

import pytest
from rich.console import Console

import made_up_results
from flatness.report.claims import read_claims
from flatness.report.ledger import evaluate
from flatness.report.summary import cells, ledger_table, print_summary, value_text
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
