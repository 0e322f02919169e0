"""What `import flatness` promises, and what it costs."""

import subprocess
import sys

import pytest
import yaml

import flatness
from checkout import ROOT


def imported_by(code):
    """Modules that some code leaves imported, in a process of its own."""
    program = f"import sys; sys.path.insert(0, {str(ROOT / 'workflow')!r}); {code}; "
    program += "print(*sys.modules)"
    return set(subprocess.check_output([sys.executable, "-c", program], text=True).split())


@pytest.mark.parametrize(
    "code", ["import flatness", "from flatness import QUANTITIES", "import flatness; dir(flatness)"]
)
def test_importing_costs_nothing(code):
    assert not imported_by(code) & {"torch", "numpy", "scipy", "pandas", "pydantic", "typer"}


def test_a_function_is_imported_when_it_is_asked_for():
    assert "torch" in imported_by("from flatness import measure")


def test_every_promised_name_exists():
    assert set(flatness.__all__) == {
        "QUANTITIES",
        "__version__",
        "certified_sharpness",
        "hessian",
        "measure",
        "watch",
        "worst_case_sharpness",
    }
    assert set(flatness.__all__) <= set(dir(flatness))
    assert all(hasattr(flatness, name) for name in flatness.__all__)
    assert flatness.measure.__module__ == "flatness.measures.measure"


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="mesure"):
        flatness.mesure  # noqa: B018


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == flatness.__version__
