"""Figure 1 from tables alone: also for a single pool, the same bytes each time."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from flatness.__main__ import main
from flatness.records.tables import read_table
from flatness.studies.epfl.draw.fig1 import draw_pool
from flatness.studies.epfl.published import scatter
from flatness.studies.epfl.rows import PoolCorrelation, PoolModel
from studies.epfl.made_up_pool import correlate, pool_tables


def draw(folder, name):
    return main(
        ["draw-epfl-fig1", "--models", str(folder / "models.csv"), "--dpi", "80"]
        + ["--correlations", str(folder / "table.csv")]
        + ["--png", str(folder / f"{name}.png"), "--svg", str(folder / f"{name}.svg")]
    )


def test_one_pool_is_drawn_with_its_numbers(tmp_path):
    pool_tables(tmp_path, 12, diverged=[1])
    correlate(tmp_path)
    assert draw(tmp_path, "a") == draw(tmp_path, "b") == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    found = read_table(tmp_path / "table.csv", PoolCorrelation).query(
        "measure == 'worst_case_sharpness'"
    )
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "GAT on sbm, 11 models, 1 left out" in text
    assert f"τ = {found['tau'].item():+.3f} [" in text
    ends = (f"{found[f'published_{end}'].item():+.2f}" for end in ("low", "high"))
    assert f"published: τ = {found['published_tau'].item():+.3f} [{', '.join(ends)}], p =" in text


def test_test_loss_is_drawn_over_sharpness(tmp_path):
    losses, sharpness = pool_tables(tmp_path, 12, diverged=[1])
    correlate(tmp_path)
    axis = Figure().add_subplot()
    correlation = read_table(tmp_path / "table.csv", PoolCorrelation).loc[0]
    draw_pool(axis, read_table(tmp_path / "models.csv", PoolModel), correlation)
    points = np.delete(np.column_stack([sharpness, losses]), 1, axis=0)
    np.testing.assert_allclose(axis.collections[-1].get_offsets(), points)
    assert "sharpness" in axis.get_xlabel() and axis.get_ylabel() == "test loss"


@pytest.mark.parametrize("demo", [False, True])
def test_the_published_dots_lie_behind_ours_where_the_data_are_the_published_ones(tmp_path, demo):
    pool_tables(tmp_path, 12)
    correlate(tmp_path)
    figure = Figure()
    axis = figure.add_subplot()
    correlation = read_table(tmp_path / "table.csv", PoolCorrelation).loc[0].copy()
    correlation["demo"] = demo
    draw_pool(axis, read_table(tmp_path / "models.csv", PoolModel), correlation)
    others = [other for other in figure.axes if other is not axis]
    if demo:
        assert not others
        return
    [line] = others[0].lines
    np.testing.assert_array_equal(line.get_xydata(), scatter("gat").to_numpy())
    assert axis.get_zorder() > others[0].get_zorder()
