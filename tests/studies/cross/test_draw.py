import pytest
from PIL import Image

from flatness.records.tables import read_table, write_table
from flatness.studies.cross.draw import MEASURE_LABELS, draw_measures
from flatness.studies.cross.rows import CrossCorrelation
from studies.cross.made_up_tables import correlated


@pytest.fixture(scope="module")
def correlations(tmp_path_factory):
    path = correlated(tmp_path_factory.mktemp("cross"), ("mlp_relu", "lenet5"))[1]
    return read_table(path, CrossCorrelation)


def drawn(folder, table):
    rows = [CrossCorrelation(**line) for line in table.to_dict("records")]
    write_table(folder / "correlations.csv", rows)
    png, svg = folder / "figure.png", folder / "figure.svg"
    draw_measures(folder / "correlations.csv", png, svg, dpi=60)
    with Image.open(png) as picture:
        return picture.size, svg.read_text(encoding="utf-8")


def hatched(text):
    return text.count('fill="url(#h') + text.count("fill: url(#h")


def test_every_coefficient_is_written_and_small_q_is_starred(tmp_path, correlations):
    table = correlations.assign(q_value=0.2)
    chosen = (
        (table["models"] == "lenet5") & (table["measure"] == "mls") & (table["loss"] == "loss_gap")
    )
    table.loc[chosen, ["estimate", "q_value"]] = [-0.357, 0.049]
    _, text = drawn(tmp_path, table)
    assert "<!-- −0.36* -->" in text and text.count("* -->") == 1
    kendall = table[(table["method"] == "kendall") & ~chosen].dropna(subset="estimate")
    for tau in kendall["estimate"]:
        assert f"<!-- {tau:+.2f} -->".replace("+-", "-").replace(" -0", " −0") in text
    assert "DEMO DATA" in text and "n = 24" in text


def test_cells_without_a_coefficient_are_hatched(tmp_path, correlations):
    _, text = drawn(tmp_path, correlations)
    kendall = correlations[correlations["method"] == "kendall"]
    assert hatched(text) == int(kendall["estimate"].isna().sum()) > 0


def test_a_partial_grid_is_drawn_with_what_it_has(tmp_path, correlations):
    """One family lacks a measure altogether; then one paper's models are not there at all."""
    gone = (correlations["models"] == "lenet5") & (correlations["measure"] == "mls")
    (_, whole), text = drawn(tmp_path, correlations[~gone])
    kendall = correlations[(correlations["method"] == "kendall") & ~gone]
    assert hatched(text) == int(kendall["estimate"].isna().sum()) + 2
    (_, half), text = drawn(tmp_path, correlations[correlations["study"] == "epfl"])
    assert half < 0.8 * whole
    assert "Hammoud" in text and "Chen" not in text


def test_every_measure_has_a_label(correlations):
    assert set(correlations["measure"]) <= set(MEASURE_LABELS)
