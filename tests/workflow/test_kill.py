"""A run killed with all its processes goes on by the same command, to the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import yaml

from workflow.real_snakefile import ROOT

KILLS = 4


def small_config(folder):
    values = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    values["statistics"]["resamples"] = 200
    pools = values["epfl"]["pools"]
    pools["fcnn"] |= {"models": 4, "block": 2}
    pools["lenet5"] |= {"models": 4, "block": 4, "max_epochs": 6}
    pools["lenet5"]["ascent"]["restarts"] = 4
    del pools["gat"]
    values["epfl"]["replications"] = {"fcnn": {"count": 2, "block": 4}}
    values["epfl"]["audit"] = {}
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def start(folder, config):
    """The run command in a process group of its own, in a folder beside the checkout's."""
    for name in ("Snakefile", "workflow", "profiles", "envs", "config", "notebooks"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])  # noqa: PTH120
    return subprocess.Popen(
        [sys.executable, "-m", "flatness", "run", str(config), "epfl"],
        cwd=folder,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT / "workflow")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def tables(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for kind in ("checkpoints", "measurements", "correlations")
        for path in sorted((folder / f"results/demo/{kind}").rglob("*.csv"))
    }


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_tables(tmp_path):
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    undisturbed.mkdir()
    disturbed.mkdir()
    config = small_config(tmp_path)
    begun = time.monotonic()
    process = start(undisturbed, config)
    assert process.wait(600) == 0, process.stderr.read()
    length = time.monotonic() - begun
    draw = random.Random(0)
    for _ in range(KILLS):
        process = start(disturbed, config)
        time.sleep(draw.uniform(0.15, 0.6) * length)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    process = start(disturbed, config)
    assert process.wait(600) == 0, process.stderr.read()
    expected = tables(undisturbed)
    assert len(expected) >= 10
    assert tables(disturbed) == expected
