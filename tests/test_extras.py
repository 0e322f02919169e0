"""Optional dependencies: each import is declared, and one that is missing says what to install."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions

import pytest

from checkout import ROOT
from flatness import extras
from flatness.__main__ import main
from flatness.errors import UserError

LIBRARY = ROOT / "workflow/flatness"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: What a room may import besides the core and the extra `studies`; the longest name counts.
EXTRAS = {
    "": ("studies",),
    "measures": (),
    "studies/transformers": ("studies", "transformers"),
    "pipeline": ("studies", "workflow"),
    "watching.py": ("studies", "workflow"),
    "report/notebook.py": ("studies", "workflow"),
}
METADATA = [
    "torch>=2",
    'PyYAML>=6; extra == "studies"',
    'flatness[studies]; extra == "workflow"',
    'psutil>=6 ; extra == "workflow"',
]


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements):
    return {normalised(re.match(r"[\w.-]+", text)[0]) for text in requirements}


INSTALLED = cache(packages_distributions)


def distributions(module):
    return {normalised(name) for name in INSTALLED().get(module, [module])}


def third_party(path):
    """The distributions of each third-party module that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        for name in {name.partition(".")[0] for name in names}:
            if name not in sys.stdlib_module_names and name != "flatness":
                yield distributions(name)


@pytest.mark.parametrize(
    "path", sorted(LIBRARY.rglob("*.py")), ids=lambda path: str(path.relative_to(LIBRARY))
)
def test_a_module_imports_only_what_its_extras_bring(path):
    name = path.relative_to(LIBRARY).as_posix()
    room = max((room for room in EXTRAS if name.startswith(room)), key=len)
    allowed = declared(PROJECT["dependencies"])
    for extra in EXTRAS[room]:
        allowed |= declared(PROJECT["optional-dependencies"][extra])
    assert [names for names in third_party(path) if not names & allowed] == []


def test_every_module_that_is_named_otherwise_than_its_distribution_is_known():
    optional = set().union(*map(declared, PROJECT["optional-dependencies"].values()))
    for path in LIBRARY.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and not node.level:
                module = node.module.partition(".")[0]
                found = distributions(module)
                if found & optional:
                    assert normalised(extras.DISTRIBUTIONS.get(module, module)) in found


@pytest.fixture
def metadata(monkeypatch):
    monkeypatch.setattr(extras, "requires", lambda _: METADATA)


@pytest.mark.usefixtures("metadata")
def test_a_missing_module_names_the_extra_that_brings_it():
    assert [extras.extra_of(name) for name in ("yaml", "psutil", "torch", "nothing")] == [
        "studies",
        "workflow",
        None,
        None,
    ]


@pytest.mark.usefixtures("metadata")
def test_a_verb_without_its_extra_ends_in_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.delitem(sys.modules, "flatness.pipeline.run", raising=False)
    assert main(["run", "config/demo.yaml"]) == 2
    assert capsys.readouterr().err == (
        "error: psutil is not installed; pip install 'flatness[workflow]'\n"
    )


@pytest.mark.usefixtures("metadata")
def test_a_bug_of_ours_is_not_reported_as_a_missing_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "flatness.pipeline.run", None)
    with pytest.raises(ModuleNotFoundError):
        main(["run", "config/demo.yaml"])


def test_a_program_that_is_not_there_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"snakemake.*flatness\[workflow\]"):
        extras.program("snakemake")
