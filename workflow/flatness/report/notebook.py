"""Output of the notebooks: claims, figures and tables of one run, possibly a partial one."""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from IPython.display import HTML, Markdown, display

from flatness.errors import UserError
from flatness.records.tables import read_values
from flatness.report.claims import read_claims
from flatness.report.gallery import figures
from flatness.report.ledger import evaluate
from flatness.report.left_out import left_out_models
from flatness.report.summary import value_text, verdict_text

PROJECT = Path(__file__).parents[3]


def results_folder() -> Path:
    """The run to show: FLATNESS_RESULTS, or the first existing one of laptop, reference and demo.

    Returns:
        A folder such as `results/laptop`.

    Raises:
        UserError: there is none.
    """
    chosen = os.environ.get("FLATNESS_RESULTS")
    names = ("laptop", "reference", "demo")
    folders = [Path(chosen)] if chosen else [PROJECT / "results" / name for name in names]
    for folder in folders:
        if folder.is_dir():
            return folder
    raise UserError(
        f"no results in {', '.join(map(str, folders))}; run make demo, or name a folder in the "
        "environment variable FLATNESS_RESULTS"
    )


def show_claims(results: Path, paper: str) -> None:
    """Shows a paper's claims that were run, with values and verdicts; counts the others.

    Args:
        results: folder of one config.
        paper: key of `flatness.report.figure_list.PAPERS`.
    """
    outcomes = [o for o in evaluate(read_claims(), results, "") if o.paper == paper]
    run = [outcome for outcome in outcomes if outcome.verdict != "not run here"]
    columns = ["claim", "published", "ours", "n", "verdict"]
    rows = [(o.statement, o.published, value_text(o), o.n, verdict_text(o)) for o in run]
    show_table(pd.DataFrame(rows, columns=columns))
    show_text(f"{len(outcomes) - len(run)} of {len(outcomes)} claims and checks: not run here.")


def show_figures(results: Path, prefix: str) -> None:
    """Shows the figures whose names begin with a prefix, each with its caption.

    Args:
        results: folder of one config.
        prefix: such as "chen_fig".
    """
    chosen = [figure for figure in figures(results) if figure.name.startswith(prefix)]
    for figure in chosen:
        display(HTML(f'<img src="{figure.image}" alt="{figure.name}" style="max-width:100%">'))
        counts = "; ".join(figure.counts)
        show_text(f"**{figure.heading}.** {figure.caption} {counts}")
    if not chosen:
        show_text(f"*No figure {prefix}… in this run.*")


def show_rows(
    results: Path, pattern: str, columns: Sequence[str], where: dict[str, str] | None = None
) -> None:
    """Shows chosen rows and columns of all tables of one kind.

    Args:
        results: folder of one config.
        pattern: of the tables' paths below it.
        columns: columns to show.
        where: column to value, the rows to show; all if None.
    """
    paths = sorted(results.glob(pattern))
    if not paths:
        show_text(f"*No table {pattern} in this run.*")
        return
    table = pd.concat([read_values(path) for path in paths])
    for name, value in (where or {}).items():
        table = table[table[name].astype(str) == value]
    if table.empty:
        show_text(f"*No such rows in {pattern} of this run.*")
    else:
        show_table(table[list(columns)])


def show_left_out(results: Path, *studies: str) -> None:
    """Shows which models of some studies are left out of the results, and why."""
    found = [entry for entry in left_out_models(results) if entry.study in studies]
    if not found:
        show_text("No model diverged, failed or was excluded.")
        return
    rows = [(entry.group, ", ".join(entry.models), entry.reason) for entry in found]
    show_table(pd.DataFrame(rows, columns=["group", "models", "reason"]))


def show_table(table: pd.DataFrame) -> None:
    """Shows a table with three digits and without its index; nan is left blank."""
    numbers = table.map(lambda cell: f"{cell:.3g}" if isinstance(cell, float) else cell)
    display(HTML(numbers.replace("nan", "").to_html(index=False)))


def show_text(text: str) -> None:
    """Shows Markdown."""
    display(Markdown(text))
