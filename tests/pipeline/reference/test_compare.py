from pathlib import Path

import pandas as pd
import pytest

from flatness.errors import DataError, NumericalError
from flatness.pipeline.reference.compare import compare, compare_tables
from made_up_results import family, pool

TABLE = "correlations/epfl/fcnn/written/written/models.csv"


def edited(path, change):
    table = pd.read_csv(path, keep_default_na=False)
    change(table)
    table.to_csv(path, index=False)


@pytest.fixture
def runs(tmp_path):
    folders = tmp_path / "ours", tmp_path / "theirs"
    for folder in folders:
        pool(folder, lost=(3,))
        family(folder)
    return folders


def test_equal_runs_agree_whatever_commit_made_them(runs, capsys):
    def later(table):
        table["commit"] = "0123456789ab"

    edited(runs[0] / "correlations/chen/vgg11/checkpoints.csv", later)
    compare(runs[0], runs[1], 0.0)
    assert "vgg11/checkpoints.csv" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("column", "value", "agrees"),
    [
        ("test_loss", 0.52, True),
        ("test_loss", 0.53, False),
        ("test_loss", "nan", False),
        ("used", False, False),
        ("reason", "lost", False),
        ("seed", 77, False),
    ],
)
def test_one_value_differs(runs, column, value, agrees):
    def change(table):
        table[column] = table[column].astype(object)
        table.loc[7, column] = value

    edited(runs[0] / TABLE, change)
    found = compare_tables(*runs, TABLE, 0.05)
    assert found.agrees == agrees
    if column == "test_loss" and not agrees:
        assert found.outside == 1
        assert f"{value}, not 0.5" in found.remark
        assert "test_loss of fcnn" in found.remark


def test_standard_errors_widen_the_tolerance(runs):
    def noisy(shift):
        def change(table):
            table["sharpness"] = 0.1 + shift
            table["sharpness_se"] = 0.02

        return change

    edited(runs[1] / TABLE, noisy(0.0))
    edited(runs[0] / TABLE, noisy(3 * 0.02 * 2**0.5 * 0.99))
    assert compare_tables(*runs, TABLE, 0.0).agrees
    edited(runs[0] / TABLE, noisy(3 * 0.02 * 2**0.5 * 1.01))
    assert compare_tables(*runs, TABLE, 0.0).outside == 50


def test_a_correlation_may_move_within_its_interval(runs):
    def moved(tau):
        def change(table):
            table.loc[0, "tau"] = tau

        return change

    table = "correlations/epfl/fcnn/written/written/correlations.csv"
    edited(runs[0] / table, moved(-0.11))
    assert compare_tables(*runs, table, 0.05).agrees
    edited(runs[0] / table, moved(-0.09))
    assert compare_tables(*runs, table, 0.05).outside == 1


def test_missing_and_different_values_are_reported(runs, capsys):
    (runs[0] / TABLE).unlink()
    edited(
        runs[0] / "correlations/chen/vgg11/bounds.csv",
        lambda table: table.pop("n"),
    )
    with pytest.raises(NumericalError, match="2 of 5 tables differ"):
        compare(*runs, 0.05)
    shown = " ".join(capsys.readouterr().out.split())
    assert "missing" in shown
    assert "other columns: n" in shown


def test_a_folder_without_results_is_refused_and_the_config_of_its_name_told(
    runs, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    missing = Path("results/laptop")
    with pytest.raises(DataError, match="no results here; name the folder"):
        compare(missing, runs[1], 0.05)
    Path("config").mkdir()
    Path("config/laptop.yaml").touch()
    missing.mkdir(parents=True)
    with pytest.raises(DataError, match=r"run config/laptop\.yaml` first"):
        compare(missing, runs[1], 0.05)


def test_paths_are_not_cut_in_a_pipe(runs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    compare(*runs, 0.05)
    shown = capsys.readouterr().out
    assert "…" not in shown
    first_column = (line.split("│")[1].strip() for line in shown.splitlines() if "│" in line)
    assert TABLE in "".join(first_column)


def test_a_folder_without_tables_is_refused(tmp_path):
    with pytest.raises(DataError, match="no tables"):
        compare(tmp_path, tmp_path / "nothing", 0.05)
