"""The table a run ends with: what was found, in the terminal."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from flatness.epfl.rows import PoolCorrelation
from flatness.tables import read_tables


def print_summary(results: Path) -> None:
    """Prints pool, models, τ, interval and p of every finished pool, and where the figures are.

    Args:
        results: folder of one config, as `results/demo`.
    """
    console = Console()
    paths = sorted(results.glob("correlations/epfl/*/*/*/correlations.csv"))
    if paths:
        console.print(epfl_table(paths))
    figures = sorted(results.glob("figures/*.png"))
    if figures:
        console.print(f"{len(figures)} figures in {results / 'figures'}/", highlight=False)


def epfl_table(paths: list[Path]) -> Table:
    """Lays out the correlations of the pools."""
    found = read_tables(paths, PoolCorrelation)
    demo = " (demo data)" if found["demo"].any() else ""
    table = Table(title=f"Kendall's τ: adaptive worst-case sharpness with test loss{demo}")
    for name in (
        "pool",
        "data",
        "trained",
        "measured",
        "models",
        "τ",
        "interval",
        "p",
        "published",
    ):
        table.add_column(name, justify="left" if name in {"pool", "data"} else "right")
    for row in found[found["sharpness"] == "sharpness"].itertuples():
        left_out = f" ({row.excluded} left out)" if row.excluded else ""
        table.add_row(
            row.pool,
            row.dataset,
            row.trained,
            row.measured,
            f"{row.n}{left_out}",
            f"{row.tau:+.3f}",
            f"\\[{row.low:+.2f}, {row.high:+.2f}]",
            f"{row.p_permutation:.2g}",
            f"{row.published_tau:+.3f}",
        )
    return table
