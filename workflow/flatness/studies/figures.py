"""Common code of all figures: options, style, and atomic writing in both formats."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import matplotlib as mpl
import matplotlib.pyplot as plt
import seaborn as sns
import typer
from matplotlib.figure import Figure

from flatness.records.files import atomic_path

Png = Annotated[Path, typer.Option(help="picture to write")]
Svg = Annotated[Path, typer.Option(help="drawing to write")]
Dpi = Annotated[int, typer.Option(help="dots per inch of the picture")]

DEMO_NOTE = "DEMO DATA: small stand-ins, not the published data sets"


@contextmanager
def figure_style() -> Iterator[None]:
    """Colours that the colour-blind can distinguish, small type, and reproducible bytes."""
    mpl.use("agg")
    style = sns.axes_style("ticks") | sns.plotting_context("paper")
    fixed = {
        "svg.hashsalt": "flatness",
        "axes.titlesize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": mpl.cycler(color=sns.color_palette("colorblind")),
    }
    with mpl.rc_context(style | fixed):
        yield


def save_figure(figure: Figure, png: Path, svg: Path, *, dpi: int, demo: bool) -> None:
    """Writes a figure as PNG and SVG, atomically, and closes it.

    Args:
        figure: the figure.
        png: picture to write.
        svg: drawing to write.
        dpi: dots per inch of the picture.
        demo: whether it shows demo data; its title then says so.

    Raises:
        DataError: a file cannot be written.
    """
    if demo:
        figure.suptitle(DEMO_NOTE, color="firebrick", fontsize=9, fontweight="bold")
    for path, metadata in ((png, {"Software": None}), (svg, {"Date": None})):
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], dpi=dpi, metadata=metadata)
    plt.close(figure)
