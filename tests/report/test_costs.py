import pytest

import made_up_results
from flatness.report.costs import job_minutes, made_by, stage_costs


def test_minutes_of_jobs_add_up(tmp_path):
    made_up_results.benchmark(tmp_path, "train/epfl/gat/written/0-24", 90)
    made_up_results.benchmark(tmp_path, "train/epfl/gat/written/25-49", 30)
    made_up_results.benchmark(tmp_path, "measure/chen/vgg11/lr0.1/0-4", 60)
    assert job_minutes(tmp_path.glob("benchmarks/*/epfl/**/*.tsv")) == 2
    costs = stage_costs(tmp_path).set_index(["study", "stage"])
    assert costs.loc[("epfl", "train"), "jobs"] == 2
    assert costs.loc[("epfl", "train"), "minutes"] == pytest.approx(2)
    assert costs.loc[("chen", "measure"), "memory_mb"] == 500.5


def test_without_benchmarks_there_are_no_costs(tmp_path):
    assert job_minutes([]) == 0
    assert stage_costs(tmp_path).empty


def test_made_by_names_each_combination_once(tmp_path):
    made_up_results.pool(tmp_path, "fcnn")
    made_up_results.pool(tmp_path, "gat")
    tables = sorted(tmp_path.glob("correlations/**/*.csv"))
    [line] = made_by(tables)
    assert "PyTorch" in line
    tables[0].write_text(
        tables[0].read_text(encoding="utf-8").replace(",cpu,", ",cuda,"), encoding="utf-8"
    )
    assert len(made_by(tables)) == 2
