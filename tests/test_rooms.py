"""Imports run down the list of rooms only, so a reader of one room need not know those above it."""

import ast
from graphlib import TopologicalSorter

import pytest

from checkout import ROOT

LIBRARY = ROOT / "workflow/flatness"
#: From the ground up: a room imports itself and what stands before it. The studies stand side by
#: side, but for `cross`, which measures the models of two of them.
ROOMS = (
    ("errors",),
    ("extras",),
    ("terminal",),
    ("records",),
    ("measures",),
    ("watching",),
    ("statistics",),
    ("datasets",),
    ("networks",),
    ("studies.titles", "studies.words"),
    ("studies.figures", "studies.quantity_columns"),
    ("studies.chen", "studies.epfl", "studies.transformers"),
    ("studies.cross",),
    ("studies.checkpoint_row",),
    ("studies.measure_checkpoint",),
    ("report",),
    ("pipeline",),
)
FLOORS = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
MODULES = sorted(LIBRARY.rglob("*.py"))


def name_of(path):
    parts = path.relative_to(LIBRARY.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module):
    """The longest room whose name begins a module's; None for the front door and empty packages."""
    inside = module.removeprefix("flatness").removeprefix(".")
    fitting = [room for room in FLOORS if inside == room or inside.startswith(f"{room}.")]
    return max(fitting, key=len, default=None)


def imported(path):
    """Modules of this package that a module imports, anywhere in it."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    known = {name_of(other) for other in MODULES}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: -node.level + 1 or None] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{source}.{alias.name}"
                if whole in known or source in known:
                    yield whole if whole in known else source


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_import_runs_upwards(path):
    room = room_of(name_of(path))
    if room is None:
        return
    for module in imported(path):
        other = room_of(module)
        assert other is not None, f"{name_of(path)} imports the front door: {module}"
        assert other == room or FLOORS[other] < FLOORS[room], f"{name_of(path)} imports {module}"


def test_every_module_has_a_room():
    packages = {"flatness", "flatness.__main__", "flatness.studies"}
    assert [
        name for name in map(name_of, MODULES) if room_of(name) is None and name not in packages
    ] == []


def test_no_two_modules_import_each_other_in_a_circle():
    graph = {name_of(path): set(imported(path)) - {name_of(path)} for path in MODULES}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("path", sorted(LIBRARY.rglob("__init__.py")), ids=name_of)
def test_a_package_says_what_lives_there(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
