import json
import subprocess

import pytest

from checkout import ROOT
from flatness.pipeline.reference.rename import read_cells, rename, renamed, renamed_path

REFERENCE = ROOT / "results/reference/laptop"
BEFORE = "07288e45fa61d8313d23e460eb41f41094c284b9"


def before(path):
    """A file of the reference as it was before its names changed."""
    named = f"{BEFORE}:results/reference/{path}"
    shown = subprocess.run(["git", "show", named], cwd=ROOT, capture_output=True, check=False)
    if shown.returncode:
        pytest.skip("the commit before the renaming is not in this clone: its history is cut off")
    return shown.stdout.decode()


@pytest.fixture
def old_names():
    """Tables of the reference before the renaming, where the same run is kept still."""
    kept = json.loads((REFERENCE / "environment.json").read_text(encoding="utf-8"))
    if json.loads(before("environment.json"))["commit"] != kept["commit"]:
        pytest.skip("another run is kept by now")
    listed = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", f"{BEFORE}:results/reference"],
        cwd=ROOT, capture_output=True, encoding="utf-8", check=True,
    ).stdout.split()  # fmt: skip
    return [name for name in listed if name.startswith(("correlations/", "report/claims"))]


def made_by(cells):
    """The commits of a table's rows; of a ledger, the commit that fixed its claims."""
    names = [name for name in ("commit", "fixed_in") if name in cells[0]]
    return {row[cells[0].index(name)] for row in cells[1:] for name in names}


#: Columns that the tables of audits no longer have: another table took their place.
GONE = {"reference_of", "reference", "reference_se", "deviation"}


def test_the_kept_tables_have_new_names_and_the_old_values(old_names):
    assert len(old_names) > 60
    changed, held = set(), 0
    for name in old_names:
        old = read_cells(before(name))
        new = read_cells((REFERENCE / renamed_path(name)).read_text(encoding="utf-8"))
        if not made_by(new) or made_by(new) != made_by(old):
            continue  # made anew since, or it does not say
        held += 1
        assert len(new) == len(old), name
        names = renamed(name, old)[0]
        assert set(names) - set(new[0]) <= GONE, name  # columns may have come since
        for place, column in enumerate(names):
            if column in new[0]:
                now = [row[new[0].index(column)] for row in new[1:]]
                was = [row[place] for row in old[1:]]
                changed |= {(a, b) for a, b in zip(was, now, strict=True) if a != b}
    assert held > 40
    # Cells that differ are names, each with one new name, and no number is among them.
    assert len({a for a, _ in changed}) == len(changed)
    assert all(a.replace("_", "").isalpha() for a, _ in changed)
    assert ("nmls", "normalized_mls") in changed and ("gap", "loss_gap") in changed


def folder_of(path):
    files = {
        "correlations/chen/optimisers/checkpoints.csv": (
            "family,sharpness,nmls,adaptive_sharpness,adaptive_sharpness_se,generalisation_gap\n"
            "optimisers,1.50,2,3e-05,nan,0.10\n"
        ),
        "correlations/transformers/correlations.csv": "x,y\nnmls,adaptive_sharpness\n",
        "correlations/epfl/gat/written/written/correlations.csv": (
            'sharpness,reasons\nsharpness_clamped,"a, sharpness"\n'
        ),
        "correlations/epfl/gat/written/written/models.csv": "seed,sharpness,sharpness_se\n0,1,.1\n",
        "correlations/cross/models.csv": "gap,measure\n-0.5,nmls\n0.5,adaptive_sharpness\n",
    }
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text, encoding="utf-8")


def texts(path):
    return {
        str(file.relative_to(path)): file.read_text(encoding="utf-8")
        for file in path.rglob("*.csv")
    }


def test_a_name_means_one_thing_in_every_table(tmp_path):
    folder_of(tmp_path)
    rename(tmp_path)
    once = texts(tmp_path)
    assert once == {
        "correlations/chen/optimizers/checkpoints.csv": (
            "family,sharpness,nmls,average_case_sharpness,average_case_sharpness_se,accuracy_gap\n"
            "optimizers,1.50,2,3e-05,nan,0.10\n"
        ),
        "correlations/transformers/correlations.csv": (
            "x,y\nnormalized_mls,average_case_sharpness\n"
        ),
        "correlations/epfl/gat/written/written/correlations.csv": (
            'measure,reasons\nworst_case_sharpness_clamped,"a, sharpness"\n'
        ),
        "correlations/epfl/gat/written/written/models.csv": (
            "seed,worst_case_sharpness,worst_case_sharpness_se\n0,1,.1\n"
        ),
        "correlations/cross/models.csv": (
            "loss_gap,measure\n-0.5,nmls\n0.5,average_case_sharpness\n"
        ),
    }
    rename(tmp_path)
    assert texts(tmp_path) == once
