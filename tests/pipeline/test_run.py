"""The run command: refuses twins and wrong configs, and clears stale locks (tests/workflow)."""

import subprocess
import sys
import time

import pytest
from filelock import FileLock

from checkout import ROOT
from flatness.__main__ import main
from flatness.errors import DataError, UserError
from flatness.pipeline.run import (
    check_before_start,
    load_config,
    parts,
    refuse_beside_living_snakemake,
)

DEMO = "config/demo.yaml"
PAPER = ROOT / "config/paper.yaml"


def test_broken_yaml_is_named_with_its_line(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("name: demo\nepfl: [unclosed\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"broken\.yaml: not valid YAML: .*line 3"):
        load_config(path)


def test_a_wrong_value_is_named_with_file_and_key(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text("name: demo\nspeed: 3\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"(?s)wrong\.yaml: .*speed: no such key"):
        load_config(path)


def test_tiers_run_in_their_order_and_then_the_rest():
    scale, demo = load_config(ROOT / "config/scale.yaml"), load_config(ROOT / DEMO)
    assert list(parts(scale, []).values())[:2] == [["scale_long"], ["scale_10000"]]
    assert list(parts(scale, []).values())[-1] == []
    assert parts(demo, []) == {"run": []}
    assert parts(scale, ["scale_mlp", "chen"]) == {"run": ["scale_mlp", "chen"]}


@pytest.fixture
def plans(monkeypatch):
    """Sets what Snakemake answers to a dry run."""

    def answer(text):
        done = subprocess.CompletedProcess([], 0, stdout=text, stderr="")
        monkeypatch.setattr("flatness.pipeline.run.dry_run", lambda config, *targets: done)

    return answer


def test_transformers_without_images_end_a_run_before_its_start(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(PAPER)]) == 3
    error = capsys.readouterr().err
    assert error.startswith("error: transformers: transformers.pretrained.images_dir is not set")
    assert error.count("\n") == 1 and "would run (275)" in error
    assert not list(tmp_path.iterdir())


def test_a_run_without_transformers_needs_no_images(tmp_path, monkeypatch, plans):
    monkeypatch.chdir(tmp_path)
    settings = load_config(PAPER)
    plans("measure_epfl  3\n")
    check_before_start(PAPER, settings, ["epfl"])
    plans("measure_transformers  3\n")
    with pytest.raises(DataError, match="images_dir is not set"):
        check_before_start(PAPER, settings, ["transformers"])


def test_images_may_be_named_by_the_environment_and_measured_models_need_none(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    settings = load_config(PAPER)
    monkeypatch.setenv("FLATNESS_IMAGENET_DIR", "/nowhere")
    with pytest.raises(DataError, match="/nowhere: no such folder"):
        check_before_start(PAPER, settings, [])
    measured = tmp_path / "results/paper/measurements/transformers"
    measured.mkdir(parents=True)
    for block in settings.transformers.blocks:
        (measured / f"{block}.csv").touch()
    check_before_start(PAPER, settings, [])


@pytest.mark.parametrize(
    "target", ["no_such_rule", "results/demo/figures/no_such.png", "measure_epfl"]
)
def test_a_misspelt_target_is_one_line_and_starts_nothing(tmp_path, monkeypatch, capsys, target):
    for name in ("Snakefile", "workflow", "profiles", "envs", "config", "notebooks"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    assert main(["run", DEMO, "epfl", target]) == 2
    shown = capsys.readouterr()
    assert f"{target}: no such target; `snakemake --list-target-rules`" in shown.err
    assert shown.err.count("\n") == 1 and shown.out == ""
    assert not (tmp_path / "results").exists()


def test_a_second_run_is_refused(tmp_path, monkeypatch, capsys, request):
    config = request.config.rootpath / DEMO
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".snakemake").mkdir()
    with FileLock(tmp_path / ".snakemake/flatness-run.lock"):
        assert main(["run", str(config)]) == 2
    assert "another run is active here" in capsys.readouterr().err


def test_a_snakemake_started_by_hand_is_not_disturbed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refuse_beside_living_snakemake()
    fake = tmp_path / "snakemake"
    fake.write_text("import time\ntime.sleep(30)\n", encoding="utf-8")
    process = subprocess.Popen([sys.executable, fake], cwd=tmp_path)
    try:
        time.sleep(0.3)
        with pytest.raises(UserError, match=f"process {process.pid}"):
            refuse_beside_living_snakemake()
    finally:
        process.kill()
        process.wait()
