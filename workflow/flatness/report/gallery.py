"""The figures of a run with caption, counts, tables, code and minutes."""

import base64
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flatness.records import layout
from flatness.records.tables import read_values
from flatness.report.costs import job_minutes, made_by
from flatness.report.figure_list import BOTH, FIGURES, PAPERS, PROTOCOLS, Count, Figure
from flatness.studies.titles import title


@dataclass(frozen=True)
class ShownFigure:
    """One figure of the page.

    Attributes:
        name: of its files.
        paper: title of the paper that it belongs to.
        heading: title.
        caption: one sentence.
        image: the picture as a data address.
        size: its width and height in pixels.
        counts: n of each table, as text.
        tables: paths below `results/<config>`.
        made_by: code and versions that made the tables.
        minutes: of its jobs; 0 if unknown.
    """

    name: str
    paper: str
    heading: str
    caption: str
    image: str
    size: tuple[int, int]
    counts: tuple[str, ...]
    tables: tuple[str, ...]
    made_by: tuple[str, ...]
    minutes: float


def figures(results: Path) -> list[ShownFigure]:
    """All figures of a run, in the order of `FIGURES`.

    Args:
        results: folder of one config.

    Returns:
        Those whose picture exists.
    """
    found = layout.files(results, layout.PICTURE)
    return [
        _shown(figure, path, results)
        for figure in FIGURES
        for path in found
        if figure.member(path.stem) is not None
    ]


def missing_figures(results: Path) -> list[str]:
    """Names in `FIGURES` for which this run has no picture."""
    found = [path.stem for path in layout.files(results, layout.PICTURE)]
    return [figure.name for figure in FIGURES if all(figure.member(name) is None for name in found)]


def _shown(figure: Figure, picture: Path, results: Path) -> ShownFigure:
    member = figure.member(picture.stem)
    members = (member,) if member else figure.only
    tables = _counted(figure, members, results)
    png = picture.read_bytes()
    jobs = [f"*/{figure.jobs}/{name}/**/*" for name in members or ("**",)]
    benchmarks = [path for job in jobs for path in layout.files(results, layout.BENCHMARK, job=job)]
    return ShownFigure(
        name=picture.stem,
        paper=PAPERS.get(figure.paper, BOTH),
        heading=figure.heading.format(member=title(member)),
        caption=f"{figure.caption_of(picture.stem)}; config {results.name}.",
        image="data:image/png;base64," + base64.b64encode(png).decode(),
        size=struct.unpack(">II", png[16:24]),
        counts=tuple(_counts(figure.count, tables, results)),
        tables=tuple(str(path.relative_to(results)) for path in tables),
        made_by=tuple(made_by(tables)),
        minutes=job_minutes(benchmarks),
    )


def _counted(figure: Figure, members: Sequence[str], results: Path) -> list[Path]:
    """The tables with the number of models, under the figure's protocol or the run's first."""
    for protocol in (figure.protocol,) if figure.protocol else PROTOCOLS:
        known = {"trained": protocol, "measured": protocol}
        found = [
            path
            for name in members or ("*",)
            for path in layout.files(results, figure.count.table, family=name, pool=name, **known)
        ]
        if found:
            return found
    return []


def _counts(count: Count, tables: list[Path], results: Path) -> Iterator[str]:
    """Such as "vgg11: 97 models, 3 left out", one per table."""
    for path in tables:
        table = read_values(path)
        rows = table[table["over"] == count.over] if count.over else table
        if len(rows):
            largest = rows.loc[rows[count.column].idxmax()]
            left_out = f", {largest['excluded']} left out" if largest["excluded"] else ""
            group = " ".join(path.relative_to(results).parts[2:-1]) or path.parent.name
            yield f"{group}: {largest[count.column]} {count.unit}{left_out}"
