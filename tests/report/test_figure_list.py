"""The list of figures against what draws them and what they are drawn from."""

import inspect
import subprocess
import sys
from importlib import import_module

import pytest

from checkout import shipped
from flatness.pipeline.config import validate
from flatness.report.dictionary import TABLES
from flatness.report.figure_list import FIGURES, PAPERS, drawn_figures

MEMBERS = {
    "families": ["vgg11", "mlp_relu"],
    "scales": [],
    "pools": ["fcnn", "gat"],
    "replications": [],
    "released_replications": [],
    "audit": ["gat"],
    "factorial": [],
    "transformers": ["vit"],
    "crossed": [],
}


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_a_figure_is_drawn_by_a_function_that_takes_its_tables(figure):
    module, name = figure.function.split(":")
    taken = inspect.signature(getattr(import_module(module), name)).parameters
    assert set(taken) == {*figure.tables, *figure.options, "png", "svg", "dpi"}
    assert figure.paper in (*PAPERS, "")


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_a_figures_tables_are_of_the_workflow_and_have_its_count(figure):
    assert set(figure.tables.values()) <= set(TABLES)
    columns = TABLES[figure.count.table].model_fields
    assert {figure.count.column, "excluded"} <= set(columns)
    assert not figure.count.over or "over" in columns


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_a_figure_says_in_a_sentence_what_it_shows(figure):
    drawn = figure.name.format(member="vgg11")
    caption = figure.caption_of(drawn)
    assert len(caption) > 40 and caption[-1] not in "." and "{" not in caption
    assert figure.member(drawn) == ("vgg11" if "{member}" in figure.name else "")


def test_names_and_verbs_tell_figures_apart():
    assert len({figure.name for figure in FIGURES}) == len(FIGURES)
    functions = {}
    for figure in FIGURES:
        assert functions.setdefault(figure.verb, figure.function) == figure.function


def test_a_config_has_the_figures_of_the_families_and_pools_that_it_has():
    drawn = drawn_figures(MEMBERS)
    assert drawn["chen_fig3"].members == ("mlp_relu", "vgg11")  # in the paper's order
    assert drawn["epfl_fig1"].members == ("fcnn", "gat")
    assert drawn["chen_scatter_vgg11"].members == ("vgg11",)
    assert {"chen_scatter_mlp_relu", "epfl_audit_gat", "chen_fig4"} <= set(drawn)
    gone = (
        "cross_measures",
        "chen_scatter_lenet5",
        "chen_figG5",
        "epfl_replications",
        "epfl_replications_released",
        "epfl_audit_fcnn",
    )
    assert not set(gone) & set(drawn)


def test_pools_come_in_the_configs_order():
    members = validate(shipped("laptop")).members
    assert members["audit"] == [pool for pool in members["pools"] if pool in members["audit"]]


def test_pools_replicated_as_released_have_their_own_figure():
    config = shipped("laptop")
    config["epfl"]["replications"] = {
        "fcnn": {"count": 4, "block": 50},
        "gat": {"count": 4, "block": 50, "released": 2},
    }
    members = validate(config).members
    assert members["replications"] == ["fcnn", "gat"]
    assert drawn_figures(members)["epfl_replications_released"].members == ("gat",)
    config["epfl"]["protocol"] = "released"  # all replications are, and their figure is the first
    assert not validate(config).members["released_replications"]


def test_the_list_is_read_without_what_draws():
    code = "import sys; import flatness.report.figure_list; "
    code += "sys.exit(bool({'torch', 'pandas', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
