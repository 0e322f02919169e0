"""Figure 4 from tables alone: also with lone families or nothing to show, the same bytes."""

import matplotlib.pyplot as plt
import pytest
from matplotlib import image

from flatness.records.tables import read_table
from flatness.studies.transformers.draw import (
    MARKERS,
    describe,
    draw_fig4,
    draw_panel,
    family_styles,
    subject,
)
from flatness.studies.transformers.rows import WITHIN, PlacedVit, VitCorrelation
from studies.transformers.made_up_transformers import correlate


def draw(folder, name="figure"):
    draw_fig4(
        models=folder / "models.csv",
        correlations=folder / "correlations.csv",
        png=folder / f"{name}.png",
        svg=folder / f"{name}.svg",
        dpi=80,
    )
    return (folder / f"{name}.png").read_bytes(), (folder / f"{name}.svg").read_bytes()


def test_families_present_once_are_drawn(tmp_path):
    correlate(tmp_path, families={"vit": 5, "levit": 1, "gcvit": 1})
    assert draw(tmp_path, "a") == draw(tmp_path, "b")
    assert image.imread(tmp_path / "a.png").std() > 0.01


@pytest.mark.parametrize("used", [0, 1, 2])
def test_a_nearly_empty_study_is_drawn(tmp_path, used):
    left_out = {"reliable": False, "reliable_released": False}
    correlate(
        tmp_path, families={"vit": 4, "levit": 1}, changes={i: left_out for i in range(used, 5)}
    )
    draw(tmp_path)
    assert image.imread(tmp_path / "figure.png").std() > 0.01


def test_models_left_out_are_drawn_hollow(tmp_path):
    correlate(tmp_path, families={"vit": 5, "levit": 3}, changes={1: {"reliable": False}})
    placed = read_table(tmp_path / "models.csv", PlacedVit)
    axis = plt.figure().subplots()
    points = placed[placed["estimator"] == "exact"]
    draw_panel(axis, points, family_styles(placed["family"]))
    hollow = [line for line in axis.lines if line.get_markerfacecolor() == "none"]
    assert sum(len(line.get_xdata()) for line in hollow if line.get_marker() in MARKERS) == 1
    plt.close("all")


def test_the_title_gives_numbers_of_models_and_correlations(tmp_path):
    correlate(tmp_path, families={"vit": 8}, changes={0: {"reliable": False}})
    table = read_table(tmp_path / "correlations.csv", VitCorrelation)
    table = table[
        (table["x"] == "normalized_mls")
        & (table["y"] == "average_case_sharpness")
        & (table["estimator"] == "exact")
    ]
    tau = table[(table["group"] == "all") & (table["method"] == "kendall")]["estimate"].item()
    line = describe(table)
    assert line.startswith("n = 7 models, 1 left out\n")
    assert f"τ = {tau:+.2f} (no interval)" in line
    inside = table[(table["group"] == WITHIN) & (table["method"] == "kendall")]["estimate"].item()
    assert f"within families = {inside:+.2f} (no interval)" in line


@pytest.mark.parametrize("pretrained", [False, True])
def test_the_title_says_what_the_models_are(tmp_path, pretrained):
    correlate(tmp_path, pretrained=pretrained)
    said = subject(read_table(tmp_path / "models.csv", PlacedVit))
    expected = ["small models trained here on digits", "pretrained models on ImageNet"]
    assert said == expected[pretrained]


def test_twenty_families_differ_in_colour_or_marker():
    styles = family_styles([f"family{i}" for i in range(20)])
    assert len(set(styles.values())) == 20
