"""Pages of the site that are made when it is built: from the code, the configs and the kept run.

Where a page says `<!-- README: Heading -->`, it gets that section of README.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from flatness.measures.quantities import QUANTITIES
from flatness.pipeline.config_reference import config_page
from flatness.report import explore

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "results/reference/laptop"
SCALE = ROOT / "results/reference/scale"
QUANTITY_PAGE = """\
# Quantities

[`measure`][flatness.measures.measure.measure] returns these by name, each with its standard error.
*Kind* says how far you can rely on a value: a **definition** is the quantity as written, a
**theorem** is a bound that always holds, a **heuristic** is a bound that may fail, and **released**
is what the authors' code computes.

"""
DICTIONARY = """\
# Data dictionary

What every column of every table of `results/<config>/` means. Every table is CSV.
"""
FIGURES = """\
# Figures

`make figures` redraws them; [Equations and figures](map.md) names the function that draws each.
[Every scatter plot, interactive](explore.html) is the laptop run's `explore.html`: it names the
model of each point, and has filters, other scales, matched losses and the claims of each plot.
"""
HEADINGS = {
    SCALE: "On the published number of images: `results/reference/scale/`",
    KEPT: "Sized for two cores: `results/reference/laptop/`",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made, and the pictures of the kept runs."""
    pages = {
        "quantities.md": QUANTITY_PAGE + quantities(),
        "configuration.md": config_page(),
        "dictionary.md": DICTIONARY + dictionary(KEPT / "report/data_dictionary.csv"),
        "figures.md": FIGURES + "".join(map(_figures, HEADINGS)),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    for run in HEADINGS:
        for picture in _pictures(run):
            files.append(File.generated(config, _place(picture), abs_src_path=str(picture)))
    files.append(File.generated(config, "explore.html", content=explore.render(KEPT)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Puts sections of README where a page asks for them."""
    return re.sub(r"^<!-- README: (.+) -->$", lambda found: section(found[1]), markdown, flags=re.M)


def section(heading: str) -> str:
    """The text of README below a heading of the second level."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    if not found:
        raise PluginError(f"README.md has no section {heading!r}")
    return re.sub(r"\]\(results/reference/(\w+)/figures/", r"](figures/\1/", found[1].strip())


def quantities() -> str:
    """All quantities in one table."""
    rows = [
        (f"`{name}`", each.symbol, each.kind, each.unit, each.description, each.convention)
        for name, each in QUANTITIES.items()
    ]
    return table(("name", "symbol", "kind", "unit", "meaning", "convention"), rows)


def dictionary(path: Path) -> str:
    """The data dictionary, a table for each kind of file."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    text = ""
    for files, columns in groupby(rows, lambda row: row["files"]):
        text += f"\n## {_cell(files)}\n\n"
        cells = [
            (f"`{row['column']}`", row["type"], row["unit"], row["symbol"], _meaning(row))
            for row in columns
        ]
        text += table(("column", "type", "unit", "symbol", "meaning"), cells)
    return text


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [headings, ["---"] * len(headings), *([_cell(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _meaning(row: dict[str, str]) -> str:
    return "; ".join(filter(None, (row["description"], row["convention"])))


def _cell(text: str) -> str:
    """Text in which Markdown's signs stand for themselves, unless it is code."""
    if text.startswith("`"):
        return text
    text = text.replace("||", "‖").replace("|", "∣")
    return re.sub(r"([\\`*_<\[])", r"\\\1", text)


def _pictures(run: Path) -> list[Path]:
    return sorted((run / "figures").glob("*.png"))


def _place(picture: Path) -> str:
    """Where a kept run's picture lies in the site."""
    return f"figures/{picture.parts[-3]}/{picture.name}"


def _figures(run: Path) -> str:
    pictures = [
        f"\n### {picture.stem}\n\n![{picture.stem}]({_place(picture)})\n"
        for picture in _pictures(run)
    ]
    return f"\n## {HEADINGS[run]}\n" + "".join(pictures)
