"""One word, one meaning, in names of the code."""

import ast
from collections import defaultdict

from checkout import ROOT

LIBRARY = ROOT / "workflow/flatness"
MODULES = sorted(LIBRARY.rglob("*.py"))
#: Text that names things: code, configs, rules, captions, notebooks.
NAMING = [
    path
    for folder in ("workflow", "config", "notebooks", "docs")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".yaml", ".smk", ".rst", ".md", ".ipynb", ".j2"}
]


def test_no_two_classes_share_a_name():
    places = defaultdict(set)
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].add(path.relative_to(LIBRARY).as_posix())
    assert not {name: files for name, files in places.items() if len(files) > 1}


def test_an_optimizer_is_spelled_one_way():
    assert len(NAMING) > len(MODULES)
    british = [
        path.relative_to(ROOT).as_posix()
        for path in NAMING
        if "optimiser" in path.read_text(encoding="utf-8").lower()
    ]
    assert not british
