"""The trends of figures 1 and 2, measured on test images and on the misclassified ones."""

import matplotlib.pyplot as plt

from flatness.studies.chen.draw.common import Checkpoints, read_checkpoints
from flatness.studies.chen.draw.trends import draw_lines, finish, trend_runs
from flatness.studies.chen.quantities import TREND_LABELS
from flatness.studies.figures import Dpi, Png, Svg, figure_style, save_figure

SAMPLED_LABELS = {"test": "test images", "misclassified": "misclassified test images"}


def draw_test_samples(checkpoints: Checkpoints, png: Png, svg: Svg, dpi: Dpi = 150) -> None:
    """Draws the trends measured on test images (left) and on the misclassified ones (right).

    The test loss belongs to the model, not to the selected images. So it is only on the left; the
    right panel beside it shows how many images are misclassified.
    """
    table = read_checkpoints(checkpoints)
    labels = {"test_loss": "test loss"} | TREND_LABELS
    labels.pop("train_loss")
    with figure_style():
        figure, axes = plt.subplots(
            len(labels), 2, figsize=(7.4, 10), layout="constrained", sharex=True
        )
        for row in axes[1:]:
            row[1].sharey(row[0])
        for column, (sampled, heading) in enumerate(SAMPLED_LABELS.items()):
            runs = trend_runs(table[table["sampled"] == sampled])
            for axis, (name, label) in zip(axes[:, column], labels.items(), strict=True):
                selected = column == 1 and name == "test_loss"
                draw_lines(axis, runs, "samples" if selected else name, "setting")
                axis.set(xlabel="", ylabel=label if column == 0 else "")
            fewest, most = runs["samples"].min(), runs["samples"].max()
            count = f"{most}" if fewest == most else f"{fewest} to {most}"
            axes[0, column].set_title(f"{heading} ({count} a checkpoint)")
        axes[0, 1].set_ylabel("images")
        finish(figure, axes[0, 0], runs, "setting: mean over seeds, band: their range", columns=3)
        save_figure(figure, png, svg, dpi=dpi, demo=bool(runs["demo"].any()))
