"""Other libraries against ours, in the environment of `make concordance`."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from checkout import ROOT

pytestmark = pytest.mark.slow
PYTHON = ROOT / ".venv-concordance/bin/python"
PAGE = ROOT / "docs/concordance.md"


def in_peers(*arguments):
    """Runs the environment's Python, which finds this checkout by itself."""
    assert PYTHON.exists(), "no .venv-concordance: call `make .venv-concordance/.ready`"
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [PYTHON, *arguments], cwd=ROOT, env=kept, capture_output=True, encoding="utf-8"
    )


def test_every_library_finds_the_same(tmp_path):
    page = Path(shutil.copy(PAGE, tmp_path))
    shown = in_peers("-m", "benchmarks.concordance", page)
    assert shown.returncode == 0, shown.stderr
    assert rows(page.read_text(encoding="utf-8")) == rows(PAGE.read_text(encoding="utf-8"))


def rows(page):
    """Quantity, library and call of each row: what a change of the code changes, and no machine."""
    cells = [line.split(" | ")[:3] for line in page.splitlines() if line.startswith("| ")]
    assert len(cells) > 100
    return cells


def test_a_library_that_is_missing_fails_in_one_line(tmp_path):
    (tmp_path / "pyhessian.py").write_text("raise ModuleNotFoundError(name='pyhessian')\n")
    code = f"import runpy, sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv[1:] = ['page']; "
    shown = in_peers("-W", "ignore", "-c", code + "runpy.run_module('benchmarks.concordance')")
    assert shown.returncode == 1
    assert shown.stderr.splitlines()[-1].startswith("error: pyhessian is not installed")


def test_pytorch_is_that_of_the_project():
    shown = in_peers("-c", "import torch; print(torch.__file__)")
    assert Path(shown.stdout.strip()).samefile(torch.__file__), shown.stderr
