"""The verb `explore`: one self-contained page with interactive scatter plots."""

import base64
import gzip
import io
import json
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import typer
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image
from plotly.offline import get_plotlyjs

from flatness.errors import UserError
from flatness.records import layout
from flatness.records.files import atomic_path
from flatness.records.tables import read_table
from flatness.report.claims import CLAIMS, PAPERS, read_claims
from flatness.report.gallery import figures
from flatness.report.ledger import Outcome
from flatness.report.page import LARGEST_PAGE
from flatness.report.scatters import ALONG, PUBLISHED, ScatterSet, scatter_sets
from flatness.report.summary import value_text, verdict_text

TEMPLATE, SCRIPT = "explore.html.j2", "explore.js"
#: Of the pictures for browsers without scripts.
WIDTH, COLOURS = 900, 64


def explore(
    results: Annotated[Path, typer.Option(help="folder of one config, as results/demo")],
    output: Annotated[Path, typer.Option(help="page to write")],
    claims: Annotated[Path, typer.Option(help="what the papers claim")] = CLAIMS,
) -> None:
    """Writes a page to explore a run's models: every scatter plot, with its claims."""
    page = render(results, claims)
    if len(page.encode()) > LARGEST_PAGE:
        raise UserError(
            f"{output}: the page would have {len(page.encode()) / 1e6:.1f} MB, more than 10; "
            "measure fewer checkpoints along training and run again"
        )
    with atomic_path(output) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render(results: Path, claims: Path = CLAIMS) -> str:
    """The page as text.

    Args:
        results: folder of one config, with its ledger.
        claims: claims.yaml.

    Returns:
        HTML that contains styles, scripts, numbers and pictures, and loads nothing else.
    """
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined
    )
    data = page_data(results, claims)
    return environment.get_template(TEMPLATE).render(
        config=results.name,
        demo=any(entry["demo"] for entry in data["sets"]),
        data=packed(json.dumps(data, allow_nan=False, separators=(",", ":"))),
        library=packed(get_plotlyjs()),
        script=(folder / SCRIPT).read_text(encoding="utf-8"),
        pictures=[(figure, small(results, figure.name)) for figure in figures(results)],
    )


def page_data(results: Path, claims: Path = CLAIMS) -> dict[str, Any]:
    """All data for the page's script.

    Args:
        results: folder of one config, with its ledger.
        claims: claims.yaml.

    Returns:
        The sets of points and the claims with their places.
    """
    sets = scatter_sets(results)
    return {
        "papers": PAPERS,
        "published": PUBLISHED,
        "sets": [asdict(entry) for entry in sets],
        "claims": placed_claims(results, claims, sets),
    }


def placed_claims(results: Path, claims: Path, sets: list[ScatterSet]) -> list[dict[str, Any]]:
    """The ledger's lines, each with the scatter plot that shows it.

    Args:
        results: folder of one config, with its ledger.
        claims: claims.yaml, which says which row of which table a claim reads.
        sets: of the run.

    Returns:
        Texts of each line, and `set`, `view`, `x` and `y`; the axes are empty if no single scatter
        plot shows it, such as a difference of two correlations. `shown`: the run has the view.
    """
    known = read_claims(claims)
    where = {entry.id: entry.where for entry in (*known.claims, *known.checks)}
    here = {(entry.id, view.name) for entry in sets for view in entry.views}
    lines = []
    for line in read_table(results / layout.LEDGER, Outcome).to_dict("records"):
        outcome = Outcome(**line)
        place = scatter_of(outcome.table, where.get(outcome.id, {}))
        texts = {name: line[name] for name in ("id", "kind", "source", "short", "statement", "n")}
        texts |= {"value": value_text(outcome), "verdict": verdict_text(outcome)}
        texts["published"] = "" if outcome.published != outcome.published else outcome.published
        lines.append(texts | place | {"shown": (place["set"], place["view"]) in here})
    return lines


def scatter_of(table: str, where: dict[str, Any]) -> dict[str, str]:
    """The scatter behind a row of a table of correlations, effects or changes.

    Args:
        table: path below `results/<config>`.
        where: column to value; selects the row.

    Returns:
        Keys set, view, x and y, in the words of `flatness.report.scatters`.
    """
    folders = PurePosixPath(table).parts[1:-1]
    study = folders[0]
    place = {"set": "/".join(folders[:2]), "view": "", "x": where.get("x", "")}
    place["y"] = where.get("y", "")
    if study in ("epfl", "replications"):
        kind = "replications " if study == "replications" else ""
        place |= {"set": f"epfl/{folders[1]}", "view": kind + "/".join(folders[2:])}
        return place | {"x": "worst_case_sharpness", "y": "test_loss"}
    if study == "transformers":
        axes = {"x": "normalized_mls", "y": "average_case_sharpness"}
        return place | {"view": where.get("estimator", "")} | axes
    if table.endswith(PurePosixPath(layout.CHANGES).name) or where.get("over") == "checkpoints":
        place["view"] = f"{ALONG}, {where.get('sampled', 'train')}"
        return place | {"x": place["x"] or "step"}
    return place | {"view": where.get("at", ""), "x": place["x"] or where.get("factor", "")}


def packed(text: str) -> str:
    """Compressed text, in characters that a page can contain; the same every time."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def small(results: Path, name: str) -> str:
    """A figure's picture with fewer pixels and colours, as a data address."""
    [path] = layout.files(results, layout.PICTURE, figure=name)
    with Image.open(path) as picture:
        picture = picture.convert("RGB")
        picture.thumbnail((WIDTH, WIDTH))
        written = io.BytesIO()
        picture.quantize(COLOURS).save(written, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()
