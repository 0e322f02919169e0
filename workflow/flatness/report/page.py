"""The verb `report`: the ledger as a table, and one self-contained page with all figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from flatness.errors import UserError
from flatness.records import layout
from flatness.records.files import atomic_path
from flatness.records.tables import read_tables, write_table
from flatness.report.claims import CLAIMS, OWN, read_claims
from flatness.report.costs import made_by, stage_costs
from flatness.report.figure_list import BOTH, PAPERS
from flatness.report.gallery import ShownFigure, figures, missing_figures
from flatness.report.ledger import Outcome, commit_of, evaluate, tally
from flatness.report.left_out import left_out_models
from flatness.report.summary import holm_line, value_text, verdict_text
from flatness.studies.epfl.rows import SourceComparison

LARGEST_PAGE = 10_000_000  # bytes
SYMBOLS = {
    "reproduced": "✓",
    "in sign, not in size": "✓",
    "holds": "✓",
    "not reproduced": "✗",
    "violated": "✗",
    "inconclusive": "~",
    "not run here": "–",
}


def report(
    results: Annotated[Path, typer.Option(help="folder of one config, as results/demo")],
    ledger: Annotated[Path, typer.Option(help="table of claims and verdicts to write")],
    html: Annotated[Path, typer.Option(help="page to write, beside the folders it links to")],
    claims: Annotated[Path, typer.Option(help="what the papers claim")] = CLAIMS,
) -> None:
    """Evaluates the papers' claims with a run's tables and writes ledger and page."""
    outcomes = evaluate(read_claims(claims), results, commit_of(claims))
    page = render(results, outcomes)
    if len(page.encode()) > LARGEST_PAGE:
        raise UserError(
            f"{html}: the page would have {len(page.encode()) / 1e6:.1f} MB, more than 10; "
            "lower figures.dpi in the config and run again"
        )
    write_table(ledger, outcomes)
    with atomic_path(html) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render(results: Path, outcomes: Sequence[Outcome]) -> str:
    """The page as text.

    Args:
        results: folder of one config.
        outcomes: the ledger.

    Returns:
        HTML with styles and pictures inside; links lead to tables in `results`.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"value": value_text, "verdict": verdict_text}
    return environment.get_template("page.html.j2").render(
        config=results.name,
        demo=any(outcome.demo for outcome in outcomes),
        fixed_in=outcomes[0].fixed_in,
        claims=_by_kind(outcomes),
        checks=[outcome for outcome in outcomes if outcome.kind == "check"],
        tally=tally(outcomes),
        holm=holm_line(outcomes),
        symbols=SYMBOLS,
        sources=_released_protocols(results),
        left_out=left_out_models(results),
        galleries=_by_paper(figures(results)),
        missing=missing_figures(results),
        costs=stage_costs(results).to_dict("records"),
        made_by=made_by(layout.tables(results, layout.CORRELATIONS)),
    )


def _by_kind(outcomes: Sequence[Outcome]) -> list[tuple[str, list[Outcome]]]:
    """Claims by paper; one's own, if there are any, come last."""
    claims = [outcome for outcome in outcomes if outcome.kind != "check"]
    groups = [(title, [o for o in claims if o.paper == name]) for name, title in PAPERS.items()]
    own = [outcome for outcome in claims if outcome.paper == OWN]
    return [*groups, ("Own claims, which do not count above", own)] if own else groups


def _released_protocols(results: Path) -> list[dict[str, Any]]:
    """Each pool as released compared with its source, one line per number."""
    tables = layout.files(results, layout.AUDITED_SOURCE)
    return read_tables(tables, SourceComparison).to_dict("records") if tables else []


def _by_paper(shown: Sequence[ShownFigure]) -> list[tuple[str, list[ShownFigure]]]:
    """Figures by paper; those of both papers come last."""
    groups = [
        (paper, [figure for figure in shown if figure.paper == paper])
        for paper in (*PAPERS.values(), BOTH)
    ]
    return [(paper, members) for paper, members in groups if members]
