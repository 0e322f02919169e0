import json

import nbformat
import pytest
from nbclient import NotebookClient

import made_up_results
from checkout import ROOT
from flatness.errors import UserError
from flatness.report import notebook

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_is_one_notebook_per_paper():
    assert [path.stem for path in NOTEBOOKS] == ["chen", "epfl"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def shown(path, results, monkeypatch):
    """Everything that a notebook shows, as text; it must run to its end."""
    monkeypatch.setenv("FLATNESS_RESULTS", str(results))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "workflow"))
    done = NotebookClient(nbformat.read(path, 4), timeout=120).execute(cwd=path.parent)
    outputs = [output for cell in done.cells for output in cell.get("outputs", [])]
    return json.dumps([output.get("data", output.get("text")) for output in outputs])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_claims_figures_and_tables(tmp_path, monkeypatch, path):
    made_up_results.pool(tmp_path, lost=(3,))
    made_up_results.family(tmp_path, "vgg11")
    made_up_results.transformers(tmp_path)
    made_up_results.audit(tmp_path)
    for name in ("epfl_fig1", "chen_fig3"):
        made_up_results.picture(tmp_path, name)
    text = shown(path, tmp_path, monkeypatch)
    assert "data:image/png" in text
    wanted = {
        "epfl": ["-0.30 [-0.50, -0.10]", "-0.311", "seed 3", "reproduced", "source_value"],
        "chen": ["+0.60 [+0.40, +0.80]", "nmls_bound", "levit_b", "No figure chen_fig1"],
    }
    for part in wanted[path.stem]:
        assert part in text
    assert ("levit_b" in text) == (path.stem == "chen")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_an_empty_folder(tmp_path, monkeypatch, path):
    assert "not run here" in shown(path, tmp_path, monkeypatch)


def test_the_run_to_show_is_chosen_or_the_largest_there_is(tmp_path, monkeypatch):
    monkeypatch.delenv("FLATNESS_RESULTS", raising=False)
    monkeypatch.setattr(notebook, "PROJECT", tmp_path)
    with pytest.raises(UserError, match="run make demo"):
        notebook.results_folder()
    for name in ("demo", "reference", "laptop"):
        (tmp_path / "results" / name).mkdir(parents=True)
        assert notebook.results_folder().name == name
    monkeypatch.setenv("FLATNESS_RESULTS", str(tmp_path))
    assert notebook.results_folder() == tmp_path
