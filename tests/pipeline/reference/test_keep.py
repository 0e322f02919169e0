import json
import shutil
from pathlib import Path

import pytest

from checkout import ROOT
from flatness.errors import DataError
from flatness.pipeline.reference.keep import LARGEST_FIGURE, keep
from made_up_results import benchmark, picture, pool

CONFIG = ROOT / "config/demo.yaml"


@pytest.fixture
def finished(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = Path("results/demo")
    pool(results)
    picture(results, "epfl_fig1")
    benchmark(results, "train/epfl/fcnn/0-24", 90)
    (results / "report").mkdir()
    (results / "report/claims.csv").write_text("id\n", encoding="utf-8")
    (results / "checkpoints").mkdir()
    (results / "checkpoints/large.safetensors").write_bytes(b"weights")
    return results


def test_tables_figures_and_what_made_them_are_kept(finished):
    output = Path("results/reference/demo")
    for of_an_earlier_run in ("figures/no_more.png", "correlations/no_more.csv"):
        (output / of_an_earlier_run).parent.mkdir(parents=True)
        (output / of_an_earlier_run).touch()
    (output / "README.md").write_text("what this is", encoding="utf-8")
    keep(CONFIG)
    kept = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    assert kept == {
        "README.md",
        "config.yaml",
        "environment.json",
        "report/claims.csv",
        "figures/epfl_fig1.png",
        "benchmarks/train/epfl/fcnn/0-24.tsv",
        "correlations/epfl/fcnn/written/written/models.csv",
        "correlations/epfl/fcnn/written/written/correlations.csv",
    }
    made = json.loads((output / "environment.json").read_text(encoding="utf-8"))
    assert made["minutes"] == 1.5
    assert made["stages"][0]["study"] == "epfl"
    assert made["packages"]["torch"]
    assert made["machine"]["cores"] >= 1


def test_a_run_that_has_not_ended_is_not_kept(finished):
    shutil.rmtree(finished / "report")
    with pytest.raises(DataError, match="is not finished"):
        keep(CONFIG)
    assert not Path("results/reference").exists()


def test_a_figure_too_large_to_commit_is_named(finished):
    (finished / "figures/huge.png").write_bytes(b"0" * (LARGEST_FIGURE + 1))
    with pytest.raises(DataError, match=r"huge\.png: 300 kB"):
        keep(CONFIG)
