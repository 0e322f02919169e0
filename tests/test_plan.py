"""The plan: jobs counted by Snakemake, minutes and gigabytes that grow with the config."""

from pathlib import Path

import pytest
import yaml

from flatness.__main__ import main
from flatness.config import validate
from flatness.errors import UserError
from flatness.plan import core_seconds, gigabytes, jobs_to_run

ROOT = Path(__file__).parents[1]


def config(name="demo"):
    return validate(yaml.safe_load((ROOT / f"config/{name}.yaml").read_text()))


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
