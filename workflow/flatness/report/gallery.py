"""The figures of a run with what stands behind each: caption, counts, tables, code, minutes."""

import base64
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from jinja2 import ChainableUndefined, Environment

from flatness.records import layout
from flatness.records.tables import read_values
from flatness.report.costs import job_minutes, made_by

#: Folder of one-sentence captions, `<figure>.rst`.
CAPTIONS = Path(__file__).with_name("captions")


@dataclass(frozen=True)
class Kind:
    """Figures of one kind, and where their numbers come from.

    Attributes:
        name: of the figure; a trailing * stands for a family.
        heading: title on the page.
        tables: groups of patterns below `results/<config>`, {family} standing for the figure's; the
            first group that matches anything is taken.
        benchmarks: patterns of the benchmark files of the jobs behind it.
        over: which rows of a table count; their n is shown.
        unit: what n counts.
        count: column of n.
    """

    name: str
    heading: str
    tables: tuple[tuple[str, ...], ...]
    benchmarks: tuple[str, ...]
    over: str = ""
    unit: str = "models"
    count: str = "n"

    def family(self, figure: str) -> str | None:
        """What * stands for in a figure's name; None if the figure is of another kind."""
        if not self.name.endswith("*"):
            return "" if figure == self.name else None
        prefix = self.name[:-1]
        return figure.removeprefix(prefix) if figure.startswith(prefix) else None


def _jobs(folder: str) -> str:
    """Benchmarks of all jobs in a folder of them."""
    return layout.glob(layout.BENCHMARK, job=f"{folder}/**/*")


def _chen(name: str, heading: str, *families: str, over: str = "checkpoints") -> Kind:
    return Kind(
        name,
        heading,
        (tuple(layout.glob(layout.CHEN_CORRELATIONS, family=family) for family in families),),
        tuple(_jobs(f"*/chen/{family}") for family in families),
        over,
        unit="models" if over == "models" else "runs over all settings",
    )


#: In the order of the page. A figure that is not here is shown after them, without counts.
KINDS = (
    _chen("chen_fig1", "Figure 1: VGG-11 by learning rate", "vgg11"),
    _chen("chen_fig2", "Figure 2: VGG-11 by batch size", "vgg11"),
    _chen(
        "chen_fig3", "Figure 3: measures and bounds", "mlp_relu", "lenet5", "vgg11", over="models"
    ),
    Kind(
        "chen_fig4",
        "Figure 4: transformers",
        ((layout.VIT_CORRELATIONS,),),
        (_jobs("*/transformers"),),
    ),
    _chen("chen_figG5", "Figure G.5: the chain of bounds", "mlp_tanh"),
    _chen("chen_mlp_lr", "MLP by learning rate", "mlp_tanh"),
    _chen("chen_mlp_batch", "MLP by batch size", "mlp_tanh"),
    _chen("chen_test_samples", "VGG-11 on test images", "vgg11"),
    _chen("chen_ten_classes", "VGG-11 on all ten classes", "vgg11_ten_classes"),
    _chen("chen_optimizers", "Other optimizers", "optimizers"),
    _chen("chen_scatter_*", "Every pair of quantities: {family}", "{family}", over="models"),
    Kind(
        "epfl_fig1",
        "Figure 1: sharpness and test loss",
        tuple(
            (layout.glob(layout.POOL_CORRELATIONS, trained=protocol, measured=protocol),)
            for protocol in ("written", "released")
        ),
        (_jobs("*/epfl"),),
    ),
    Kind(
        "cross_measures",
        "Every measure of both papers on the models of both",
        ((layout.CROSS_CORRELATIONS,),),
        (_jobs("*/cross"),),
        unit="models in the largest set",
    ),
    Kind(
        "epfl_replications",
        "The sampling distribution of τ",
        ((layout.glob(layout.DISTRIBUTION),),),
        (_jobs("*/epfl"),),
        unit="replications",
        count="replications",
    ),
    Kind(
        "epfl_audit_*",
        "Written, strong, released: {family}",
        ((layout.glob(layout.AUDIT, pool="{family}"),),),
        (_jobs("*/epfl/{family}"),),
    ),
    Kind(
        "epfl_factorial_*",
        "Every combination of defects: {family}",
        ((layout.glob(layout.FACTORIAL_CELLS, pool="{family}"),),),
        (_jobs("*/factorial/{family}"),),
    ),
)


@dataclass(frozen=True)
class Figure:
    """One figure as the page shows it.

    Attributes:
        name: of its files.
        heading: title.
        caption: one sentence; empty if there is none.
        image: the picture as a data address.
        size: its width and height in pixels.
        counts: n of each table, as text.
        tables: paths below `results/<config>`.
        made_by: code and versions behind the tables.
        minutes: of the jobs behind it; 0 where unknown.
    """

    name: str
    heading: str
    caption: str
    image: str
    size: tuple[int, int]
    counts: tuple[str, ...]
    tables: tuple[str, ...]
    made_by: tuple[str, ...]
    minutes: float


def figures(results: Path) -> list[Figure]:
    """All figures of a run, in the order of `KINDS`, others after them.

    Args:
        results: folder of one config.

    Returns:
        Those whose picture exists.
    """
    found = {path.stem: path for path in layout.files(results, layout.PICTURE)}
    order = [(kind, name) for kind in KINDS for name in found if kind.family(name) is not None]
    named = {name for _, name in order}
    order += [(Kind(name, name, (), ()), name) for name in found if name not in named]
    return [_figure(kind, found[name], results) for kind, name in order]


def missing_figures(results: Path) -> list[str]:
    """Names of the kinds of figures that this run has no picture of."""
    found = [path.stem for path in layout.files(results, layout.PICTURE)]
    return [kind.name for kind in KINDS if all(kind.family(name) is None for name in found)]


def _figure(kind: Kind, picture: Path, results: Path) -> Figure:
    family = kind.family(picture.stem)
    groups = (_matches(results, patterns, family) for patterns in kind.tables)
    tables = next((paths for paths in groups if paths), [])
    png = picture.read_bytes()
    return Figure(
        name=picture.stem,
        heading=kind.heading.format(family=family),
        caption=caption(picture.stem, results.name),
        image="data:image/png;base64," + base64.b64encode(png).decode(),
        size=struct.unpack(">II", png[16:24]),
        counts=tuple(_counts(kind, tables, results)),
        tables=tuple(str(path.relative_to(results)) for path in tables),
        made_by=tuple(made_by(tables)),
        minutes=job_minutes(_matches(results, kind.benchmarks, family)),
    )


def _matches(results: Path, patterns: tuple[str, ...], family: str) -> list[Path]:
    filled = [pattern.format(family=family) for pattern in patterns]
    return [path for pattern in filled for path in sorted(results.glob(pattern))]


def _counts(kind: Kind, tables: list[Path], results: Path) -> Iterator[str]:
    """Such as "vgg11: 97 models, 3 left out", one a table."""
    for path in tables:
        table = read_values(path)
        rows = table[table["over"] == kind.over] if kind.over else table
        if len(rows):
            largest = rows.loc[rows[kind.count].idxmax()]
            left_out = f", {largest['excluded']} left out" if largest["excluded"] else ""
            group = " ".join(path.relative_to(results).parts[2:-1]) or path.parent.name
            yield f"{group}: {largest[kind.count]} {kind.unit}{left_out}"


def caption(figure: str, config: str, captions: Path = CAPTIONS) -> str:
    """A figure's caption, filled in as Snakemake's own report does.

    Args:
        figure: name of the figure; its caption's name is the figure's or begins it.
        config: name of the configuration.
        captions: folder of the captions.

    Returns:
        One sentence; empty if there is none.
    """
    names = [path for path in captions.glob("*.rst") if figure.startswith(path.stem)]
    if not names:
        return ""
    longest = max(names, key=lambda path: len(path.stem))
    family = figure.removeprefix(longest.stem).lstrip("_")
    wildcards = SimpleNamespace(figure=figure, family=family)
    snakemake = SimpleNamespace(config={"name": config}, wildcards=wildcards)
    template = Environment(undefined=ChainableUndefined).from_string(
        longest.read_text(encoding="utf-8")
    )
    return " ".join(template.render(snakemake=snakemake).split())
