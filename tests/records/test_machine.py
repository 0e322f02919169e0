"""The instruction set of a process, and that what follows from tables does not load PyTorch."""

import os
import subprocess
import sys

import pytest
import torch

from checkout import ROOT
from flatness.records.machine import instruction_set
from flatness.records.tables import provenance

LOWEST = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "sse41"}


@pytest.fixture(autouse=True)
def uncapped(monkeypatch):
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)


def said(code, **variables):
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT / "workflow")} | variables,
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout


def test_every_row_says_what_pytorch_uses(monkeypatch):
    assert provenance("abc")["instruction_set"] == torch.backends.cpu.get_cpu_capability()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "avx2")
    assert instruction_set() == f"{torch.backends.cpu.get_cpu_capability()}/AVX2"


def test_a_lowered_set_is_told_in_one_line():
    line = said("from flatness.__main__ import main; main(['machine'])", **LOWEST)
    assert line.count("\n") == 1
    assert "DEFAULT/SSE41" in line
    assert f"{os.cpu_count()} core" in line


def test_rows_that_follow_from_rows_do_not_load_pytorch():
    code = """
import sys
import pandas as pd
from flatness.records.derived import derived_from
from flatness.records.tables import provenance
table = pd.DataFrame([provenance("abc", computed_with="AVX2")])
print(derived_from(table)["instruction_set"], "torch" in sys.modules)
"""
    assert said(code).split() == ["AVX2", "False"]
