"""After a change, exactly what depends on it runs again: asserted from the list of jobs."""

import ast
import json
import os
import shutil

import pandas as pd
import pytest

from flatness.__main__ import STEPS
from flatness.datasets import DATASETS, module_of
from flatness.pipeline.code_names import Definition
from flatness.pipeline.code_version import closures
from flatness.pipeline.manifest import read_manifest
from workflow import tiny, traced
from workflow.tiny import planned

REPORT = {"report": 1, "explore": 1, "notebook": 2}
FIGURES = {"draw": 7}  # three of the one family, two of the one pool, figure 4, and that of both
STYLE = ("firebrick", "darkred")
FORMULA = ("s.layer_adaptive[:, index] / 2", "s.layer_adaptive[:, index] / 3")
CROSS = {"correlate_cross": 1}


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def append(path, line):
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")


def planned_with(folder, change):
    """Jobs after a change of the config's values."""
    values = tiny.tiny_values()
    change(values)
    tiny.write_config(folder / "tiny.yaml", values)
    return planned(folder)


def test_nothing_changed_nothing_to_do(finished):
    """Not even in another folder; said within seconds of its own, however busy the machine."""
    before = os.times()
    done = tiny.call(finished, "snakemake", "--configfile", "tiny.yaml")
    after = os.times()
    assert sum(after[2:4]) - sum(before[2:4]) < 5  # user and system time of children
    assert done.returncode == 0
    assert "Nothing to be done" in done.stderr


def test_a_run_ends_with_its_last_job(finished):
    """Not with the timers of Snakemake's scheduler, a minute each."""
    figure = "results/tiny/figures/epfl_fig1.png"
    (finished / figure).unlink()
    done = tiny.call(finished, "snakemake", "--configfile", "tiny.yaml", "--", figure, timeout=45)
    assert done.returncode == 0, done.stderr
    assert (finished / figure).exists()


def test_words_times_unused_code_and_environment_rerun_nothing(finished):
    measures = finished / "workflow/flatness/measures/measure.py"
    edit(measures, '"""', '"""Other words. ')
    append(measures, "# a comment")
    append(measures, "UNUSED = 3")
    edit(finished / "workflow/flatness/records/files.py", "cannot be written", "is not writable")
    edit(finished / "envs/environment.yaml", "numpy==", "numpy==9")
    for path in (finished / "workflow").rglob("*.*"):
        path.touch()
    assert planned(finished) == {}


def test_adding_a_data_set_and_a_network_reruns_nothing(finished):
    library = finished / "workflow/flatness"
    (library / "datasets/images/tiny.py").write_text(
        "def make():\n    return {}\n", encoding="utf-8"
    )
    (library / "networks/tiny.py").write_text("def tiny():\n    return 1\n", encoding="utf-8")
    assert planned(finished) == {}


def test_more_seeds_train_the_new_blocks_only(finished):
    def change(values):
        values["epfl"]["replications"] = {}  # of so many models each: another size, other models
        values["epfl"]["pools"]["fcnn"]["models"] += 1
        values["chen"]["families"]["mlp_tanh"]["seeds"] += 1

    assert planned_with(finished, change) == {
        "train_epfl": 1, "measure_epfl": 1, "correlate_epfl": 1, "draw": 5,
        "train_chen_mlp_tanh": 1, "measure_chen_mlp_tanh": 1, "correlate_chen": 1,
        "contrast_chen": 1, "measure_cross_epfl": 1,
        "measure_cross_chen_mlp_tanh": 1, **CROSS, **REPORT,
    }  # fmt: skip


def test_another_length_of_training_trains_again(finished):
    def change(values):
        values["chen"]["families"]["mlp_tanh"]["iterations"] *= 2

    assert planned_with(finished, change)["train_chen_mlp_tanh"] == 1


def test_other_samples_are_measured_without_training(finished):
    def change(values):
        values["chen"]["families"]["mlp_tanh"]["samples"] += 1

    assert planned_with(finished, change) == {
        "measure_chen_mlp_tanh": 1, "correlate_chen": 1, "contrast_chen": 1, "draw": 4,
        **CROSS, **REPORT,
    }  # fmt: skip


def test_figures_style_redraws_only(finished):
    def change(values):
        values["figures"]["dpi"] += 1

    assert planned_with(finished, change) == FIGURES | REPORT


def test_one_figures_code_redraws_that_figure(finished):
    edit(
        finished / "workflow/flatness/studies/chen/draw/fig_g5.py",
        "1, 3, figsize=(",
        "1, 3, figsize=(1 + ",
    )
    assert planned(finished) == {"draw": 1, **REPORT}
    assert planned(finished, "tiny.yaml", "results/tiny/figures/chen_figG5.png") == {"draw": 1}


def test_a_figures_heading_and_caption_are_no_reason_to_draw_it(finished):
    figures = finished / "workflow/flatness/report/figure_list.py"
    edit(figures, "Figure G.5: the chain", "Figure G.5: a chain")
    edit(figures, "Kendall's τ of every measure", "Kendall's rank correlation of every measure")
    assert planned(finished) == REPORT


def test_the_shared_plotting_module_redraws_all_figures(finished):
    edit(finished / "workflow/flatness/studies/figures.py", *STYLE)
    assert planned(finished) == FIGURES | REPORT


def test_a_measures_formula_measures_again_without_training(finished):
    edit(finished / "workflow/flatness/measures/measure.py", *FORMULA)
    assert planned(finished) == {
        "measure_chen_mlp_tanh": 1, "correlate_chen": 1, "contrast_chen": 1, "draw": 4,
        "measure_cross_epfl": 1, **CROSS, **REPORT,
    }  # fmt: skip


def test_a_deleted_figure_is_drawn_alone(finished):
    (finished / "results/tiny/figures/chen_figG5.png").unlink()
    assert planned(finished) == {"draw": 1, **REPORT}


@pytest.fixture
def clone(finished_run, tmp_path):
    """A fresh checkout with the results copied in: no records, every time a new one."""
    folder = tiny.check_out(tmp_path / "clone")
    shutil.copy(finished_run / "tiny.yaml", folder)
    results = shutil.copytree(finished_run / "results", folder / "results")
    for path in sorted(results.rglob("*")):  # figures before the tables that they were drawn from
        path.touch()
    return folder


def test_adopted_results_are_as_if_made_here(clone):
    done = tiny.flatness(clone, "adopt", "tiny.yaml")
    assert done.returncode == 0, done.stderr
    assert "taken over; 0 jobs left to run" in done.stdout
    assert planned(clone) == {}
    edit(clone / "workflow/flatness/measures/measure.py", *FORMULA)
    assert planned(clone)["measure_chen_mlp_tanh"] == 1
    assert "train_chen_mlp_tanh" not in planned(clone)


@pytest.fixture
def tables_only(clone):
    """A clone that has every table, and no weights."""
    for path in clone.rglob("results/tiny/checkpoints/**/*.safetensors"):
        path.unlink()
    done = tiny.flatness(clone, "adopt", "tiny.yaml")
    assert done.returncode == 0, done.stderr
    assert "taken over; 0 jobs left to run" in done.stdout
    return clone


def blocks_made(jobs):
    """Of the planned jobs, those that train or measure."""
    return {rule: count for rule, count in jobs.items() if rule.startswith(("train", "measure"))}


def test_tables_outlive_checkpoints(tables_only):
    """Of a run's blocks alone, those that miss a table are made again, weights included."""
    assert planned(tables_only) == {}
    results = tables_only / "results/tiny"
    (results / "report.html").unlink()
    for folder in ("correlations", "figures", "report", "notebooks"):
        shutil.rmtree(results / folder)
    assert blocks_made(planned(tables_only)) == {}
    (results / "measurements/chen/mlp_tanh/lr0.1_batch20/0-1.csv").unlink()
    assert blocks_made(planned(tables_only)) == {
        "train_chen_mlp_tanh": 1, "measure_chen_mlp_tanh": 1, "measure_cross_chen_mlp_tanh": 1,
    }  # fmt: skip


def test_what_other_settings_trained_is_not_taken_without_weights_either(tables_only):
    def change(values):
        values["chen"]["families"]["mlp_tanh"]["iterations"] *= 2

    assert planned_with(tables_only, change)["train_chen_mlp_tanh"] == 1


def test_results_of_other_code_and_settings_are_not_passed_off_as_ours(clone, finished_run):
    shutil.copytree(finished_run / "data", clone / "data")
    edit(clone / "workflow/flatness/studies/figures.py", *STYLE)
    values = tiny.tiny_values()
    values["epfl"]["pools"]["fcnn"]["rho"] *= 2
    tiny.write_config(clone / "tiny.yaml", values)
    done = tiny.flatness(clone, "adopt", "tiny.yaml")
    assert done.returncode == 0, done.stderr
    assert planned(clone) == {
        "measure_epfl": 2, "correlate_epfl": 1, "replicate_epfl": 1, **CROSS, **FIGURES, **REPORT
    }  # fmt: skip


def test_an_archive_is_adopted_and_a_changed_table_refused(finished, tmp_path):
    assert tiny.flatness(finished, "archive", "tiny.yaml").returncode == 0
    shutil.rmtree(finished / "results")
    shutil.rmtree(finished / ".snakemake")
    command = ["adopt", "tiny.yaml", "--archive", "flatness-tiny.tar"]
    done = tiny.flatness(finished, *command)
    assert done.returncode == 0, done.stderr
    assert planned(finished) == {}
    table = finished / "results/tiny/correlations/epfl/fcnn/written/written/models.csv"
    edit(table, "fcnn", "FCNN")
    done = tiny.flatness(finished, "adopt", "tiny.yaml")
    assert done.returncode == 3
    assert "models.csv: its content does not match the manifest" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_result_says_what_made_it(finished_run):
    """Rows carry it, and the manifest, with the job, stands for each file."""
    manifest = read_manifest(finished_run / "results/tiny/manifest.json")
    assert manifest.config_hash and manifest.commit
    assert {"torch", "snakemake", "numpy"} <= set(manifest.packages)
    made = [path for path in manifest.files if not path.endswith(".tsv")]
    for path in made:
        assert manifest.record(path)["params"], path
    for stage in ("checkpoints", "measurements"):
        for path in (finished_run / "results/tiny" / stage).rglob("*.csv"):
            table = pd.read_csv(path, dtype=str)
            named = table[["experiment", "commit", "dirty", "torch_version", "python_version"]]
            assert named.notna().all(axis=None), path
            assert str(path.relative_to(finished_run)) in made


@pytest.mark.slow
def test_the_same_bytes_on_one_core_each_setting_in_a_job_of_its_own(finished_run, tmp_path):
    """The shared run has both cores, if this machine has two, and one job for all settings."""
    folder = tiny.check_out(tmp_path / "alone")
    shutil.copytree(finished_run / "data", folder / "data")
    values = tiny.tiny_values()
    values["chen"]["families"]["mlp_tanh"]["together"] = False
    tiny.write_config(folder / "tiny.yaml", values)
    everything = tiny.tables(finished_run)
    targets = [f"results/tiny/{path}" for path in everything if path.startswith("correlations/")]
    command = ["snakemake", "--configfile", "tiny.yaml", "--cores", "1", "--"]
    done = tiny.call(folder, *command, *targets, timeout=600)
    assert done.returncode == 0, done.stderr
    found = tiny.tables(folder)
    assert len(found) >= 15
    assert everything.keys() - found.keys() <= {"report/claims.csv", "report/data_dictionary.csv"}
    assert found == {path: everything[path] for path in found}


def test_versions_cover_every_function_that_a_job_called(finished_run):
    """Each is a part of what its job's version was computed from."""
    records = sorted((finished_run / traced.FOLDER).glob("*.json"))
    verbs = {path.stem.rsplit("-", 1)[0] for path in records}
    assert {"fetch", "train-epfl", "train-chen", "measure-chen", "measure-transformers"} <= verbs
    assert len(verbs) > 15
    found = ["flatness.networks.mlp", *map(module_of, DATASETS)]
    for path in records:
        verb = path.stem.rsplit("-", 1)[0]
        if verb not in STEPS:
            continue
        lines = {}
        for part in closures([STEPS[verb], *found]):
            for place in part.reached:
                if isinstance(place, Definition):
                    first = min(getattr(node, "lineno", 10**6) for node in ast.walk(place.node))
                    span = range(first, place.node.end_lineno + 1)
                    lines.setdefault(place.module.name, set()).update(span)
        called = json.loads(path.read_text(encoding="utf-8"))
        assert called
        for file, line in called:
            module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            assert line in lines.get(module, ()), f"{verb}: {file}, line {line}"
