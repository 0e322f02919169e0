"""The site's pages against the code: examples run, and what the pages name exists."""

import itertools
import re
import shutil
import subprocess
import sys
from importlib import import_module

import pytest
import torch
from torch import nn

from checkout import ROOT
from flatness import certified_sharpness
from flatness.measures.quantities import QUANTITIES
from flatness.pipeline.run import load_config
from flatness.report.claims import read_claims
from flatness.report.figure_list import FIGURES, drawn_figures
from flatness.report.ledger import evaluate
from workflow import tiny
from workflow.real_snakefile import job_counts

DOCS = ROOT / "docs"
MAP = (DOCS / "map.md").read_text(encoding="utf-8")
REFERENCE = ROOT / "results/reference/scale"
#: Suffixes of the other forms of a bound, which the map names once for all.
FORMS = ("_bias", "_released")


def blocks(text):
    """Language, title and text of every block of code."""
    pattern = r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$'
    return re.findall(pattern, text, re.MULTILINE | re.DOTALL)


def run_examples(page):
    """The names that the examples of a page leave, run one after the other."""
    examples = [
        text
        for language, _, text in blocks((DOCS / f"{page}.md").read_text(encoding="utf-8"))
        if language == "python"
    ]
    assert examples
    names = {}
    for example in examples:
        exec(compile(example, f"{page}.md", "exec"), names)
    return names


@pytest.mark.parametrize("page", ["index", "measure"])
def test_the_examples_run_in_their_order(page):
    assert run_examples(page)["found"]["sharpness"].value > 0


def test_the_examples_of_the_hessian_agree_with_each_other():
    names = run_examples("hessian")
    trace, layers, G = names["trace"], names["layers"], names["G"]
    assert sum(part.value for part in layers.values()) == pytest.approx(
        trace.value, abs=4 * trace.standard_error + 1e-3 * abs(trace.value)
    )
    assert names["top"].values[0] > names["bottom"].values[-1]
    assert G.eigenvalues(end="bottom").values[0] > -1e-4 * names["top"].values[0]
    assert names["tokens"].top_eigenvalue() > 0


def test_the_examples_of_worst_case_sharpness_agree_with_each_other():
    names = run_examples("worst-case")
    values = [rise.value for rise in names["sweep"]]
    assert values == sorted(values) and values[0] > 0 < names["ball"].value
    ratios = [bracket.ratio for bracket in names["brackets"].values()]
    assert 1 <= ratios[0] < 1.001 and ratios == sorted(ratios)


def test_the_example_of_a_watched_training_comes_to_the_edge_of_stability():
    last = run_examples("watch")["watched"].rows[-1]
    assert 0.8 < last["top_eigenvalue"] / last["two_over_lr"] < 1.2


def test_the_brackets_that_the_page_shows_are_those_that_are_found():
    page = (DOCS / "worst-case.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (0\.\d+) \| ([\d.e-]+) \| ([\d.e-]+) \| ", page, re.MULTILINE)
    assert len(rows) >= 4
    torch.manual_seed(0)
    widths = itertools.pairwise((10, 64, 64, 1))
    layers = [part for a, b in widths for part in (nn.Linear(a, b), nn.ReLU())][:-1]
    model = nn.Sequential(*layers).double()
    x, y = torch.randn(20, 10).double(), torch.randn(20, 1).double()
    for rho, lower, upper in rows:
        found = certified_sharpness(model, x, y, rho=float(rho))
        assert found.upper == pytest.approx(float(upper), rel=1e-3)
        assert found.lower == pytest.approx(float(lower), rel=0.01)  # an ascent, on any processor


# the map

FUNCTIONS = sorted(set(re.findall(r"`(flatness(?:\.\w+)+)`", MAP)))
DRAWN = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| `(flatness\.[\w.]+\.draw_\w+)` \|$", MAP, re.M))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_that_the_map_names_exists(name):
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[end:]:
            found = getattr(found, attribute)
        return
    pytest.fail(f"no module of {name}")


def test_the_map_leaves_out_no_quantity():
    first_column = set(re.findall(r"^\| `(\w+)` \|", MAP, re.MULTILINE))
    plain = {name for name in QUANTITIES if not name.endswith(FORMS)}
    assert plain - first_column == set()


def test_the_map_names_every_figure_of_the_configs_and_what_draws_it():
    configs = (load_config(ROOT / f"config/{name}.yaml") for name in ("laptop", "scale"))
    assert set(DRAWN) == {name for config in configs for name in drawn_figures(config.members)}
    assert {path.stem for path in REFERENCE.parent.glob("*/figures/*.png")} <= set(DRAWN)
    for name, function in DRAWN.items():
        [figure] = [figure for figure in FIGURES if figure.member(name) is not None]
        assert figure.function.replace(":", ".") == function


# the worked examples


def extended(folder, *headings):
    """A checkout with the examples below some headings of the page."""
    checkout = tiny.check_out(folder / "checkout")
    page = (DOCS / "extend.md").read_text(encoding="utf-8")
    for heading in headings:
        section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
        titled = [block for block in blocks(section) if block[1]]
        assert titled
        for language, title, text in titled:
            apply(checkout / title, language, text)
    return checkout


def apply(path, language, text):
    """Writes a new file, or adds the lines with + after the others, which are there once."""
    if language != "diff":
        assert not path.exists()
        path.write_text(text, encoding="utf-8")
        return
    lines = text.splitlines()
    before = "\n".join(line[1:] for line in lines if not line.startswith("+"))
    after = "\n".join(line[1:] for line in lines)
    content = path.read_text(encoding="utf-8")
    assert content.count(f"\n{before}\n") == 1, f"{path.name} has changed; mend docs/extend.md"
    path.write_text(content.replace(f"\n{before}\n", f"\n{after}\n"), encoding="utf-8")


def python(checkout, script):
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=checkout,
        env=tiny.environment(checkout),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()


def planned(checkout, *targets):
    done = tiny.call(checkout, "snakemake", "--dry-run", "--quiet", "rules", "--", *targets)
    assert done.returncode == 0, done.stdout + done.stderr
    return job_counts(done.stdout + done.stderr)


NEW_NETWORK = """
from pathlib import Path
import torch
from flatness.datasets.fetch import fetch
from flatness.datasets.normalised import load
from flatness.measures.measure import measure
from flatness.networks.build import build

fetch("stripes", Path("stripes.safetensors"))
images = load(Path("stripes.safetensors")).tensors["train_inputs"]
model = build("narrow", seed=0).eval().double()
found = measure(model, images[:5].double() / 255)
print(*images.shape, found["stable_rank"].value, found["rank"].value)
"""


def test_a_new_data_set_network_and_measure_work_together(tmp_path):
    checkout = extended(tmp_path, "A data set", "A network", "A measure")
    *shape, stable, rank = python(checkout, NEW_NETWORK)
    assert shape == ["200", "1", "28", "28"]
    assert 1 <= float(stable) <= float(rank) == 10
    jobs = planned(checkout, "results/demo/correlations/chen/narrow/correlations.csv")
    assert jobs["train_chen_narrow"] == jobs["measure_chen_narrow"] == jobs["fetch"] == 1


SHOWN = """
from pathlib import Path
from flatness.report.gallery import figures
[figure] = figures(Path("results/kept"))
print(figure.name, figure.heading, figure.caption, *figure.counts)
"""


def test_a_new_figure_is_drawn_planned_and_shown(tmp_path):
    """From its module and its entry in the list alone."""
    checkout = extended(tmp_path, "A figure")
    kept = shutil.copytree(
        REFERENCE / "correlations/chen/vgg11", checkout / "results/kept/correlations/chen/vgg11"
    )
    picture = checkout / "results/kept/figures/chen_spread.png"
    options = ("--checkpoints", kept / "checkpoints.csv", "--png", picture, "--svg", "new.svg")
    done = tiny.flatness(checkout, "draw-chen-spread", *options)
    assert done.returncode == 0, done.stderr
    assert picture.stat().st_size > 5000
    assert planned(checkout, "results/demo/figures/chen_spread.png")["draw_together"] == 1
    assert planned(checkout, "chen")["draw_together"] == 1
    shown = " ".join(python(checkout, SHOWN))
    assert shown.startswith("chen_spread How sharp models of one setting are")
    assert shown.endswith("config kept. vgg11: 50 models")


def test_a_new_claim_gets_a_verdict(tmp_path):
    checkout = extended(tmp_path, "A claim")
    claims = read_claims(checkout / "workflow/flatness/report/claims.yaml")
    verdicts = {found.id: found.verdict for found in evaluate(claims, REFERENCE, "now")}
    assert len(verdicts) == 1 + len({found.id for found in evaluate(read_claims(), REFERENCE, "")})
    assert verdicts["mls-volume-vgg11"] == "reproduced"
