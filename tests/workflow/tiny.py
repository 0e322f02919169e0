"""The smallest config with every stage of every study, and a checkout of its own to run it in."""

import contextlib
import os
import re
import shutil
import subprocess
import sys

import yaml
from safetensors import SafetensorError, safe_open

from checkout import ROOT, shipped

PARTS = ("Snakefile", "workflow", "profiles", "envs", "config", "notebooks", "LICENSE")
PARTS += ("README.md", "CITATION.cff")


def tiny_values():
    """The demo's config, cut down to a few models that take milliseconds."""
    values = shipped()
    values |= {"name": "tiny", "device": "cpu"}
    values["statistics"]["resamples"] = 100
    values["figures"]["together"] = False
    pools = values["epfl"]["pools"]
    values["epfl"]["pools"] = {"fcnn": pools["fcnn"] | {"models": 4, "block": 4}}
    values["epfl"] |= {"replications": {"fcnn": {"count": 2, "block": 4}}, "audit": {}}
    values["epfl"]["factorial"] = {}  # 140 combinations: a minute and more
    family = values["chen"]["families"]["mlp_tanh"]
    family |= {"settings": family["settings"][:2], "together": True}
    family |= {"seeds": 2, "block": 2, "trend_seeds": 2, "trend_block": 2}
    family |= {"iterations": 200, "samples": 4}
    family["checkpoints"] = {"schedule": "even", "count": 2}
    values["chen"]["families"] = {"mlp_tanh": family}
    values["cross"] |= {"families": ["mlp_tanh"], "samples": 4}
    transformers = values["transformers"]
    transformers["trained"]["models"] = transformers["trained"]["models"][:2]
    transformers["trained"]["training"]["images"] = 100
    measuring = transformers["measuring"]
    measuring |= {"images": 4, "chunk": 4, "evaluated": 20}
    measuring["adam"]["steps"] = measuring["power"]["limit"] = 3
    measuring["perturbations"] |= {
        "stack": 2,
        "single": {"least": 2, "most": 2},
        "pairs": {"least": 2, "most": 2, "images": 4, "tolerance": 0.1},
    }
    return values


def longer_values():
    """The tiny config with two trainings of some seconds, of one model each."""
    values = tiny_values()
    family = values["chen"]["families"]["mlp_tanh"]
    family |= {"together": False, "seeds": 1, "trend_seeds": 1, "block": 1}
    family |= {"iterations": 4000, "classes": [3, 8]}
    values["epfl"]["pools"]["fcnn"] |= {"models": 3, "block": 3}
    return values


def write_config(path, values):
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def check_out(folder):
    """A copy of the checkout, whose files can be edited."""
    folder.mkdir(parents=True)
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def save_often(folder):
    """Makes trainings of a checkout save their state each 0.1 s, in place of each 30 s."""
    train = folder / "workflow/flatness/studies/chen/train.py"
    code = train.read_text(encoding="utf-8")
    assert "SAVE_SECONDS = 30.0" in code
    train.write_text(code.replace("SAVE_SECONDS = 30.0", "SAVE_SECONDS = 0.1"), encoding="utf-8")


def trained_steps(folder):
    """The step that each training in the scratch folder has reached."""
    steps = {}
    for path in folder.glob("scratch/train-chen/*/*/seed?.safetensors"):
        with contextlib.suppress(SafetensorError, OSError), safe_open(path, framework="np") as file:
            state = file.metadata()["flatness"]
            steps[path] = int(state.split('"step": ')[1].rstrip("}"))
    return steps


def environment(folder):
    """Commands of this Python's environment, and the folder's own code."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])  # noqa: PTH120
    return os.environ | {"PATH": path, "PYTHONPATH": str(folder / "workflow")}


def call(folder, *command, timeout=300):
    """Runs a command in a checkout."""
    return subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, encoding="utf-8",
        timeout=timeout, check=False,
    )  # fmt: skip


def flatness(folder, *arguments, **options):
    """Runs a verb in a checkout."""
    return call(folder, sys.executable, "-m", "flatness", *arguments, **options)


def planned(folder, config="tiny.yaml", *targets):
    """Jobs that a dry run lists, by rule; collectors, which do nothing, left out."""
    done = call(
        folder, "snakemake", "--configfile", config, "--dry-run", "--quiet", "rules", "--", *targets
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", done.stdout, re.M)}
    collectors = {"all", "epfl", "chen", "transformers", "cross", "reports", "total"}
    return {name: count for name, count in counts.items() if name not in collectors}


def tables(folder, name="tiny"):
    """Every table of a run, by path."""
    results = folder / "results" / name
    return {str(path.relative_to(results)): path.read_bytes() for path in results.rglob("*.csv")}
