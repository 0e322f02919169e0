"""The layout of results: what the rules name is found again, and nothing else spells it."""

import re

import pytest

from checkout import ROOT
from flatness.records import layout

STAGES = "checkpoints|measurements|correlations|benchmarks|figures"
WRITTEN_OUT = re.compile(rf"""f?["'](?:[^"'\s]*[/}}])?(?:{STAGES})/""")


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_files_of_one_kind_are_found_by_what_is_known_of_them(tmp_path):
    def named(pool, block):
        name = layout.EPFL_MEASURED.format(pool=pool, trained="t", measured="m", block=block)
        return touch(tmp_path / name)

    first, second, other = named("fcnn", "0-4"), named("fcnn", "5-9"), named("gat", "0-4")
    touch(tmp_path / layout.CROSS_EPFL_MEASURED.format(pool="fcnn", trained="t", block="0-4"))
    assert layout.files(tmp_path, layout.EPFL_MEASURED) == [first, second, other]
    assert layout.files(tmp_path, layout.EPFL_MEASURED, pool="fcnn", block="5-9") == [second]


def test_a_job_is_known_by_its_benchmark(tmp_path):
    paths = [
        touch(tmp_path / layout.BENCHMARK.format(job=job))
        for job in ("measure/cross/chen/vgg11/0-4", "train/epfl/audit")
    ]
    assert layout.files(tmp_path, layout.BENCHMARK) == paths
    jobs = [layout.job_of(tmp_path, path) for path in paths]
    assert jobs == [("measure", "cross", "chen", "vgg11"), ("train", "epfl")]


def test_tables_of_a_stage_are_found_in_all_its_folders(tmp_path):
    table = touch(tmp_path / layout.CROSS_MODELS)
    touch(tmp_path / layout.VIT_MEASURED.format(block="0-4"))
    assert layout.tables(tmp_path, layout.CORRELATIONS) == [table]


def test_every_kind_has_a_path_of_its_own():
    patterns = [
        value for name, value in vars(layout).items() if name.isupper() and isinstance(value, str)
    ]
    assert len(set(patterns)) == len(patterns) > 30


@pytest.mark.parametrize("folder", ["workflow/flatness", "workflow/rules"])
def test_no_other_code_spells_paths_of_results(folder):
    found = {
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in (ROOT / folder).rglob("*.[ps][ym]*")
        if path.name
        not in ("layout.py", "rename.py")  # which knows kept tables of earlier versions
        for line in path.read_text(encoding="utf-8").splitlines()
        if WRITTEN_OUT.search(line) and "../report" not in line
    }
    assert found == set()
