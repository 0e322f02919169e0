"""The plan: jobs counted by Snakemake, minutes and gigabytes that grow with the config."""

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from checkout import ROOT, shipped
from flatness.__main__ import main
from flatness.errors import UserError
from flatness.pipeline.config import validate
from flatness.pipeline.plan import (
    KEPT,
    REPORT_SECONDS,
    core_seconds,
    gigabytes,
    jobs_to_run,
    kind_of,
    work,
)
from flatness.pipeline.run import load_config


def config(name="demo"):
    return validate(shipped(name))


def test_the_three_sizes_are_ordered():
    sizes = [config(name) for name in ("demo", "laptop", "paper")]
    assert sorted(sizes, key=core_seconds) == sizes
    assert sorted(sizes, key=gigabytes) == sizes


def test_more_restarts_and_samples_across_papers_take_longer():
    changed = {"restarts": 40, "samples": 500, "families": ("mlp_relu",)}
    before = config("laptop")
    times = {}
    for key, value in changed.items():
        cross = before.cross.model_copy(update={key: value})
        times[key] = core_seconds(before.model_copy(update={"cross": cross}))
    assert times["families"] < core_seconds(before) < min(times["restarts"], times["samples"])


def test_a_network_without_a_rate_counts_as_the_largest():
    """In each kind of work: the largest need not be the same in all of them."""
    before = config("laptop")

    def seconds(network):
        families = dict(before.chen.families)
        families["vgg11"] = families["vgg11"].model_copy(update={"network": network})
        chen = before.chen.model_copy(update={"families": families})
        return core_seconds(before.model_copy(update={"chen": chen}))

    largest = max(map(seconds, ("mlp", "lenet5", "vgg11")))
    assert largest <= seconds("one_of_my_own") < 1.05 * largest


def test_pretrained_models_are_said_to_be_left_out(monkeypatch, capsys):
    monkeypatch.setattr("flatness.pipeline.plan.jobs_to_run", lambda path: 7)
    paths = [str(ROOT / f"config/{name}.yaml") for name in ("laptop", "paper")]
    assert main(["plan", *paths]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count("leave out") == 1
    assert shown.endswith("paper.yaml: minutes and GB leave out its 275 pretrained models")


def test_the_kept_run_itself_is_planned_at_what_it_took():
    """Job by job: every benchmark has its work in the plan, and all work has its benchmarks."""
    kept = load_config(KEPT / "config.yaml")
    found, seconds = Counter(), 0.0
    for path in KEPT.glob("benchmarks/**/*.tsv"):
        found[kind_of(path.relative_to(KEPT / "benchmarks").parts[:-1], kept)] += 1
        seconds += pd.read_csv(path, sep="\t")["cpu_time"].sum()
    planned = Counter()
    for kind, jobs, _ in work(kept):
        planned[kind] += jobs
    assert planned == found
    assert core_seconds(kept) - REPORT_SECONDS == pytest.approx(seconds, rel=0.005)


def test_audits_and_replications_are_counted():
    laptop = config("laptop")

    def seconds(**changes):
        epfl = laptop.epfl.model_copy(update=changes)
        return core_seconds(laptop.model_copy(update={"epfl": epfl}))

    more = laptop.epfl.audit["lenet5"].model_copy(update={"few": 4})
    # two models more: retrained four times a minute, and passes over the whole set
    assert seconds(audit={**laptop.epfl.audit, "lenet5": more}) > seconds() + 2 * 5 * 60
    assert seconds(replications={}) < seconds() > seconds(audit={})


def test_the_demo_is_planned_without_being_run(monkeypatch, tmp_path, capsys):
    for name in ("Snakefile", "workflow", "profiles", "envs", "config", "notebooks"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    assert jobs_to_run(Path("config/demo.yaml")) > 20
    assert main(["plan", "config/demo.yaml"]) == 0
    assert "config/demo.yaml" in capsys.readouterr().out
    assert not (tmp_path / "results").exists()


def test_a_failed_dry_run_is_reported(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="the dry run failed"):
        jobs_to_run(ROOT / "config/demo.yaml")
