import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flatness.errors import UserError
from flatness.records.tables import read_table, write_table
from flatness.statistics.settings import Statistics
from flatness.studies.chen.correlate import correlate_family
from flatness.studies.chen.draw.common import (
    pearson,
    pearson_text,
    read_checkpoints,
    setting_label,
    setting_order,
    shared_steps,
    shown,
    size,
    subject,
)
from flatness.studies.chen.draw.fig3 import PANELS, draw_bound, draw_fig3
from flatness.studies.chen.draw.fig_g5 import draw_fig_g5
from flatness.studies.chen.draw.scatter import draw_coefficient, draw_scatter
from flatness.studies.chen.draw.test_samples import draw_test_samples
from flatness.studies.chen.draw.trends import draw_trends, median_interpolation, trend_runs
from flatness.studies.chen.measured_rows import FamilyCorrelation, MeasuredCheckpoint
from flatness.studies.chen.quantities import last_on_train
from flatness.studies.figures import figure_style
from studies.chen.small_study import made_up_family

STATISTICS = Statistics(resamples=100, confidence=0.95, seed=0).model_dump_json()


def family_tables(folder, name="vgg11", **options):
    write_table(folder / f"{name}.csv", made_up_family(name, **options))
    outputs = [folder / f"{name}_{kind}.csv" for kind in ("checkpoints", "correlations", "bounds")]
    correlate_family(STATISTICS, [folder / f"{name}.csv"], *outputs)
    return outputs[:2]


def drawn(folder, draw, *arguments):
    png, svg = folder / "figure.png", folder / "figure.svg"
    draw(*arguments, png, svg, dpi=60)
    with Image.open(png) as picture:
        width = picture.width
    return width, svg.read_text(encoding="utf-8")


@pytest.mark.parametrize("by", ["learning_rate", "batch_size", "setting"])
def test_trends_name_the_models_and_mark_demo_data(tmp_path, by):
    checkpoints, _ = family_tables(tmp_path, diverged=(("lr0.1_batch20", 1),))
    _, text = drawn(tmp_path, draw_trends, [checkpoints], by)
    runs = {"learning_rate": 5, "batch_size": 5, "setting": 9}[by]
    for expected in ("DEMO DATA", f"{runs} models", "1 left out (training loss not finite"):
        assert expected in text


def test_trends_of_models_that_all_diverged_draw_an_empty_figure(tmp_path):
    lost = tuple(
        (f"lr{r:g}_batch{b}", s) for r, b in [(0.05, 20), (0.1, 20), (0.2, 20)] for s in (0, 1)
    )
    checkpoints, _ = family_tables(tmp_path, seeds=2, diverged=lost)
    _, text = drawn(tmp_path, draw_trends, [checkpoints], "learning_rate")
    assert "0 models (0 interpolate), 6 left out" in text


def test_trends_without_a_run_measured_along_training_say_what_to_set(tmp_path):
    checkpoints, _ = family_tables(tmp_path, trend_seeds=0)
    with pytest.raises(UserError, match="set trend_seeds"):
        drawn(tmp_path, draw_trends, [checkpoints], "batch_size")


def test_test_samples_are_drawn_with_their_number(tmp_path):
    checkpoints, _ = family_tables(tmp_path)
    _, text = drawn(tmp_path, draw_test_samples, [checkpoints])
    assert "misclassified test images (20 a checkpoint)" in text


def test_figure_3_has_a_column_per_family_and_pearsons_r(tmp_path):
    one = family_tables(tmp_path, "mlp_relu")
    two = family_tables(tmp_path, "lenet5", network="lenet5", diverged=(("lr0.1_batch8", 3),))
    narrow, _ = drawn(tmp_path, draw_fig3, [one[0]], [one[1]])
    wide, text = drawn(tmp_path, draw_fig3, [one[0], two[0]], [one[1], two[1]])
    assert wide == pytest.approx(2 * narrow, rel=0.02)
    table = read_table(two[1], FamilyCorrelation)
    assert pearson_text(pearson(table, "bound_d_released", "mls")).split("\n")[0] in text
    assert "19 models (15 interpolate)" in text
    assert "at training loss 0.0003" in text and "40 training images" in text
    for level in ("all: r = ", "within a seed: r = ", "within a setting: r"):
        assert level in text


def test_figure_3_says_where_models_were_not_measured_along_training(tmp_path):
    checkpoints, correlations = family_tables(tmp_path, trend_seeds=0)
    _, text = drawn(tmp_path, draw_fig3, [checkpoints], [correlations])
    assert "not measured along training" in text


def test_figure_3_has_no_axes_where_no_model_reaches_the_loss(tmp_path):
    path, correlations = family_tables(tmp_path)
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table["train_loss"] = "0.01"
    table.to_csv(path, index=False)
    _, text = drawn(tmp_path, draw_fig3, [path], [correlations])
    assert text.count("0 models (0 interpolate), 10 left out") == len(PANELS)
    assert text.count("(training loss stays above 0.0003)") == len(PANELS)
    assert text.count("all: r = ") == len(PANELS)  # at the end of training


def test_models_that_do_not_interpolate_are_hollow(tmp_path):
    models = last_on_train(read_checkpoints([family_tables(tmp_path)[0]]))
    levels = setting_order(models)
    with figure_style():
        axis = plt.subplots()[1]
        draw_bound(axis, models, levels, "", "mls", "bound_d_released")
    hollow = [points for points in axis.collections if not len(points.get_facecolors())]
    assert (
        sum(len(points.get_offsets()) for points in hollow) == (~models["interpolated"]).sum() > 0
    )
    assert sum(len(points.get_offsets()) for points in axis.collections) == len(models)


def test_first_interpolation_is_where_half_of_the_runs_have_interpolated(tmp_path):
    table = read_checkpoints([family_tables(tmp_path)[0]])
    runs = trend_runs(table[(table["sampled"] == "train") & (table["learning_rate"] == 0.1)])
    first = runs[runs["interpolated"]].groupby(["setting", "seed"])["step"].min()
    assert median_interpolation(runs) == np.sort(first)[(len(first) - 1) // 2]
    assert np.isnan(median_interpolation(runs.assign(interpolated=False)))
    _, text = drawn(tmp_path, draw_trends, [tmp_path / "vgg11_checkpoints.csv"], "learning_rate")
    assert "first interpolation" in text and "40 training images, 400 steps" in text


def test_means_along_training_are_of_the_same_runs_at_every_step(tmp_path):
    """A checkpoint that one run found for itself is no mean over runs."""
    table = read_checkpoints([family_tables(tmp_path)[0]])
    runs = trend_runs(table[table["sampled"] == "train"])
    own = runs.iloc[[1]].assign(step=137)
    assert shared_steps(pd.concat([runs, own]))["step"].unique().tolist() == [0, 100, 200, 300, 400]


def test_runs_measured_at_matched_losses_only_are_not_along_training(tmp_path):
    table = read_checkpoints([family_tables(tmp_path)[0]])
    runs = trend_runs(table[table["sampled"] == "train"])
    few = runs[(runs["seed"] == runs["seed"].min()) & runs["step"].isin([0, 400])]
    others = few.assign(seed=99)
    assert trend_runs(pd.concat([runs, others])).equals(runs)
    broken = others.assign(diverged=True)  # counted among those left out
    assert len(trend_runs(pd.concat([runs, broken]))) == len(runs) + len(broken)


def test_levels_that_are_drawn_apart_need_not_have_the_same_steps(tmp_path):
    table = read_checkpoints([family_tables(tmp_path)[0]])
    runs = trend_runs(table[table["sampled"] == "train"])
    other = {0: 0, 100: 90, 200: 180, 300: 270, 400: 360}
    slow = runs["learning_rate"] == 0.05
    runs = runs.assign(step=runs["step"].where(~slow, runs["step"].map(other)))
    assert shared_steps(runs)["step"].unique().tolist() == [0]
    found = shared_steps(runs, ["learning_rate"]).groupby("learning_rate")["step"]
    assert [sorted(steps.unique()) for _, steps in found] == [
        [*other.values()], [*other], [*other]
    ]  # fmt: skip
    assert "360 to 400 steps" in size(runs)


def test_activations_are_distinguished(tmp_path):
    names = [
        subject(read_checkpoints([family_tables(tmp_path, name)[0]]))
        for name in ("mlp_relu", "mlp_tanh")
    ]
    assert names == ["ReLU MLP on digits", "tanh MLP on digits"]


def test_figure_3_of_two_models_shows_points_without_a_coefficient(tmp_path):
    write_table(tmp_path / "m.csv", made_up_family(seeds=1, trend_seeds=0)[:2])
    outputs = [tmp_path / f"{kind}.csv" for kind in ("checkpoints", "correlations", "bounds")]
    correlate_family(STATISTICS, [tmp_path / "m.csv"], *outputs)
    _, text = drawn(tmp_path, draw_fig3, [outputs[0]], [outputs[1]])
    assert "r n/a" in text and "2 models" in text
    drawn(tmp_path, draw_scatter, [outputs[0]], [outputs[1]])


def test_figure_g5_shows_every_run_that_did_not_diverge(tmp_path):
    checkpoints, _ = family_tables(tmp_path, "mlp_tanh", diverged=(("lr0.1_batch20", 0),))
    _, text = drawn(tmp_path, draw_fig_g5, [checkpoints])
    assert "9 models (" in text and "1 left out" in text and "tanh MLP" in text


def test_the_scatter_matrix_shows_every_coefficient(tmp_path):
    checkpoints, correlations = family_tables(tmp_path)
    _, text = drawn(tmp_path, draw_scatter, [checkpoints], [correlations])
    table = read_table(correlations, FamilyCorrelation)
    assert f"{pearson(table, 'mls', 'relative_flatness')[0]:.2f}" in text and "20 models" in text


def test_a_coefficients_colour_tells_its_sign_and_size():
    with figure_style():
        axes = plt.subplots(1, 4)[1]
        for axis, estimate in zip(axes, (-0.9, 0.1, 0.9, np.nan), strict=True):
            draw_coefficient(axis, (estimate, np.nan, np.nan))
    blue, pale, red, none = (axis.get_facecolor() for axis in axes)
    assert blue[2] > blue[0] and red[0] > red[2] and min(pale[:3]) > 0.8
    assert none == (1, 1, 1, 1) and axes[3].texts[0].get_text() == "r n/a"


def test_models_left_out_are_counted_with_their_reasons(tmp_path):
    checkpoints, _ = family_tables(tmp_path, diverged=(("lr0.1_batch20", 1),))
    models = last_on_train(read_table(checkpoints, MeasuredCheckpoint))
    text = shown(models, ~models["diverged"])
    assert text == ("19 models (15 interpolate), 1 left out (training loss not finite by step 100)")


def test_settings_are_written_for_reading():
    assert setting_label("lr0.1_batch20") == "lr 0.1, batch 20"
    assert setting_label("lr0.01_batch20_momentum0.9") == "lr 0.01, batch 20, momentum 0.9"
