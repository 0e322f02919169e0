"""Figure 1 from tables alone: also for a single pool, the same bytes each time."""

from matplotlib import image

from epfl.made_up_pool import correlate, pool_tables
from flatness.__main__ import main


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
    assert image.imread(tmp_path / "a.png").std() > 0.01
