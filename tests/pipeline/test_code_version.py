"""What must run again after an edit, and what must not: on a made-up package, and on ours."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flatness.__main__ import VERBS
from flatness.errors import UserError
from flatness.pipeline import code_names, code_syntax
from flatness.pipeline.code_version import closures, code_version

PACKAGE = {
    "made_up/__init__.py": '"""A package."""\n',
    "made_up/entry.py": '''
"""An entry point."""

import sys
import warnings
from typing import Annotated

import typer
from scipy.stats import kendalltau

from made_up import formulas as maths
from made_up.rows import Fitted
from made_up.shared import *
from made_up.tools import mean as average


def entry(
    count: Annotated[int, typer.Option(help="how many")], size: int = 3
) -> None:
    """Does it."""
    total: float = average([size, count])  # a comment
    if total < 0:
        raise ValueError(f"{total} is below zero")
    warnings.warn("slow", stacklevel=2)
    print(f"done {count}", file=sys.stderr)
    assert total is not None, "no total"
    return Fitted(total=total + maths.area(count), tau=kendalltau, even=is_even(4))


def alone():
    return 1
''',
    "made_up/tools.py": '''
"""Tools."""

from made_up.inner import SCALE, count_up


def mean(values):
    """The mean."""
    from made_up.late import correction

    return SCALE * sum(values) / len(values) + correction() + count_up(3)


def unused(values):
    return max(values)
''',
    "made_up/late.py": "def correction():\n    return 0.5\n",
    "made_up/inner/__init__.py": "from .deep import SCALE\nfrom .deep import go_up as count_up\n",
    "made_up/inner/deep.py": """
from functools import cache

SCALE, OFFSET = 1, 2
LIMIT = 10


def twice(function):
    return lambda n: 2 * function(n)


def go_up(n):
    return n if n > LIMIT else go_down(n + 2)


@cache
@twice
def go_down(n):
    return go_up(n - 1)
""",
    "made_up/formulas.py": """
import math


def area(radius, sides=4):
    return math.pi * radius ** 2 + sides


def label(value):
    return f"{value:.2f} of {value!r}"
""",
    "made_up/rows.py": '''
from pydantic import BaseModel, Field


def column(text, *, unit=""):
    return Field(description=text)


class Base(BaseModel):
    def rounded(self):
        return round(self.total, 3)


class Fitted(Base):
    """A row."""

    total: float = column("the total", unit="m")
    tau: float = Field(default=0.0, description="of Kendall")

    def text(self) -> str:
        count: int = 2
        return str(self.total * count)
''',
    "made_up/shared.py": """
def is_even(n):
    return n == 0 or is_odd(n - 1)


def is_odd(n):
    return n != 0 and is_even(n - 1)
""",
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes the made-up package, with some files replaced, and gives the entry's version."""

    def write(**files):
        shutil.rmtree(tmp_path / "made_up", ignore_errors=True)
        for name, text in (PACKAGE | files).items():
            if text is not None:
                path = tmp_path / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        return version("made_up.entry:entry")

    monkeypatch.setattr(code_names, "LIBRARY", tmp_path)
    yield write
    forget()


def forget():
    for function in (code_names.load, code_names.is_ours, code_syntax.syntax, code_version):
        function.cache_clear()


def version(*roots):
    forget()
    return code_version(*roots)


def edited(name, *changes):
    """A file of the package after replacements, each of which must be one."""
    text = PACKAGE[name]
    for old, new in changes:
        assert text.count(old) == 1, (old, text.count(old))
        text = text.replace(old, new)
    return {name: text}


ENTRY, TOOLS, DEEP = "made_up/entry.py", "made_up/tools.py", "made_up/inner/deep.py"
FORMULAS, ROWS, SHARED = "made_up/formulas.py", "made_up/rows.py", "made_up/shared.py"

SAME = {
    "comment": edited(ENTRY, ("a comment", "other words")),
    "blank lines": edited(DEEP, ("LIMIT = 10", "LIMIT = (\n    10\n)")),
    "docstring": edited(TOOLS, ('"""The mean."""', '"""The arithmetic mean."""')),
    "docstring removed": edited(TOOLS, ('    """The mean."""\n', "")),
    "docstring of a class": edited(ROWS, ('"""A row."""', '"""One row."""')),
    "words of an error": edited(ENTRY, ("is below zero", "must not be negative")),
    "value in an error": edited(ENTRY, ("{total} is", "{total:.3f} is")),
    "words of a warning": edited(ENTRY, ('"slow"', '"very slow"')),
    "words of a message": edited(ENTRY, ("done {count}", "finished {count}")),
    "words of an assertion": edited(ENTRY, ('"no total"', '"a total is missing"')),
    "words of an option": edited(ENTRY, ("how many", "number of them")),
    "words of a column": edited(ROWS, ("the total", "the sum")),
    "unit of a column": edited(ROWS, ('unit="m"', 'unit="km"')),
    "words of a column from the module of words": edited(
        ROWS,
        ('column("the total"', "column(words.TOTAL"),
        ("from pydantic", "from . import words\nfrom pydantic"),
    )
    | {"made_up/words.py": "TOTAL = 'the sum'\n"},
    "words of a field": edited(ROWS, ("of Kendall", "of Kendall, b")),
    "annotation of an argument": edited(TOOLS, ("mean(values)", "mean(values: list[float])")),
    "annotation of a result": edited(ROWS, ("-> str", "-> object")),
    "annotation of a variable": edited(ROWS, ("count: int = 2", "count = 2")),
    "a function that is not used": edited(TOOLS, ("max(values)", "min(values)")),
    "a function beside the entry": edited(ENTRY, ("return 1", "return 2")),
    "a module that is not imported": {"made_up/more.py": "import os\nos.umask(0)\n"},
    "other name of an import": edited(
        ENTRY, ("mean as average", "mean as middle"), ("average([", "middle([")
    ),
    "module imported by attribute": edited(
        ENTRY,
        ("from made_up import formulas as maths", "import made_up.formulas"),
        ("maths.area", "made_up.formulas.area"),
    ),
    "function imported from its module": edited(
        ENTRY,
        ("from made_up import formulas as maths", "from made_up.formulas import area"),
        ("maths.area", "area"),
    ),
    "library imported whole": edited(
        ENTRY,
        ("from scipy.stats import kendalltau", "import scipy.stats as st"),
        ("tau=kendalltau", "tau=st.kendalltau"),
    ),
    "relative import": edited(TOOLS, ("from made_up.inner import", "from .inner import")),
    "star import spelled out": edited(ENTRY, ("shared import *", "shared import is_even")),
    "re-export passed by": edited(
        TOOLS,
        ("from made_up.inner import SCALE, count_up", "from made_up.inner.deep import *"),
        ("count_up(3)", "go_up(3)"),
    ),
    "renamed constant": edited(DEEP, ("LIMIT = 10", "MOST = 10"), ("> LIMIT", "> MOST")),
    "moved module": edited(TOOLS, ("made_up.late", "made_up.inner.early"))
    | {"made_up/late.py": None, "made_up/inner/early.py": PACKAGE["made_up/late.py"]},
    "moved function": edited(ENTRY, ("import formulas as maths", "import late as maths"))
    | {
        "made_up/late.py": PACKAGE["made_up/late.py"]
        + PACKAGE[FORMULAS].split("def label")[0].replace("import math", "import math\n\n"),
        FORMULAS: "",
    },
    "split module": edited(SHARED, ("def is_odd(n):\n    return n != 0 and is_even(n - 1)\n", ""))
    | edited(ENTRY, ("from made_up.shared", "from made_up.odd"))
    | {
        SHARED: "from made_up.odd import is_odd\n\n\ndef is_even(n):\n"
        "    return n == 0 or is_odd(n - 1)\n",
        "made_up/odd.py": "import made_up.shared as even\nfrom made_up.shared import is_even\n\n\n"
        "def is_odd(n):\n    return n != 0 and even.is_even(n - 1)\n",
    },
    "typing only": edited(
        FORMULAS,
        ("import math",
         "import math\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import io"),
    ),
}  # fmt: skip

OTHER = {
    "formula": edited(FORMULAS, ("** 2", "** 3")),
    "default of an argument": edited(FORMULAS, ("sides=4", "sides=5")),
    "default of the entry": edited(ENTRY, ("size: int = 3", "size: int = 4")),
    "type of the entry's argument": edited(ENTRY, ("Annotated[int,", "Annotated[float,")),
    "sign in a condition": edited(ENTRY, ("total < 0", "total <= 0")),
    "kind of an error": edited(ENTRY, ("raise ValueError", "raise TypeError")),
    "constant": edited(DEEP, ("LIMIT = 10", "LIMIT = 11")),
    "one of two constants": edited(DEEP, ("SCALE, OFFSET = 1, 2", "SCALE, OFFSET = 3, 2")),
    "the other constant imported": edited(
        TOOLS,
        ("import SCALE, count_up", "import count_up\nfrom .inner.deep import OFFSET as SCALE"),
    ),
    "constant changed after": edited(DEEP, ("LIMIT = 10", "LIMIT = 10\nLIMIT += 1")),
    "behind a re-export": edited(DEEP, ("go_down(n + 2)", "go_down(n + 3)")),
    "another re-export": {
        "made_up/inner/__init__.py": "from .deep import SCALE, go_down as count_up\n"
    },
    "behind a star import": edited(SHARED, ("n == 0 or", "n == 2 or")),
    "in a mutual recursion": edited(SHARED, ("n != 0 and", "n != 1 and")),
    "import inside a function": {"made_up/late.py": "def correction():\n    return 0.6\n"},
    "decorator": edited(DEEP, ("lambda n: 2 *", "lambda n: 3 *")),
    "decorator removed": edited(DEEP, ("@twice\n", "")),
    "external decorator": edited(
        DEEP, ("import cache", "import lru_cache"), ("@cache", "@lru_cache")
    ),
    "base of a class": edited(ROWS, ("round(self.total, 3)", "round(self.total, 4)")),
    "method": edited(ROWS, ("count: int = 2", "count: int = 3")),
    "type of a field": edited(ROWS, ("total: float", "total: int")),
    "default of a field": edited(ROWS, ("default=0.0", "default=1.0")),
    "what makes fields": edited(ROWS, ("return Field(", "return Field(ge=0, ")),
    "another library's function": edited(
        ENTRY, ("import kendalltau", "import spearmanr as kendalltau")
    ),
    "another library": edited(ENTRY, ("from scipy.stats import", "from other.stats import")),
    "another function of ours by the same name": edited(
        ENTRY, ("made_up.tools import mean as", "made_up.tools import unused as")
    ),
    "a relative import of other code": edited(
        TOOLS, ("from made_up.inner import SCALE, count_up", "from .other import SCALE, count_up")
    ) | {"made_up/other.py": "SCALE = 1\n\n\ndef count_up(n):\n    return n\n"},
    "a statement on import": edited(FORMULAS, ("import math", "import math\nmath.pi = 3")),
    "a call on import, in a module imported on the way": {
        "made_up/__init__.py": "import os\n\nos.umask(0)\n"
    },
    "an import that acts": edited(FORMULAS, ("import math", "import math\nfrom . import acts"))
    | {"made_up/acts.py": "import os\n\nos.umask(0)\n"},
    "a try on import": edited(
        FORMULAS,
        ("import math", "try:\n    import cmath as math\nexcept ImportError:\n    import math"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_what_computes_the_same_keeps_its_version(write, name):
    assert write() == write(**SAME[name])


@pytest.mark.parametrize("name", OTHER)
def test_what_computes_something_else_has_another_version(write, name):
    assert write() != write(**OTHER[name])


BODIES = {
    "shadowed by a local name": ("mean = 3\n    return mean", False),
    "in a comprehension's source": ("return [mean for mean in mean([1])]", True),
    "in a comprehension's condition": ("return [n for n in [1] if mean([n])]", True),
    "shadowed by an argument": ("return (lambda mean: mean)(1)", False),
    "as a default": ("return lambda x=mean: x", True),
    "in a nested function": ("def inner():\n        return mean\n    return inner", True),
    "as a global": ("global mean\n    mean = 3", True),
    "in a format": ("return f'{1:{mean([1])}}'", True),
    "in a match": ("match 1:\n        case mean:\n            return mean", False),
    "behind a class's own name": (
        "class A:\n        mean = 1\n        def f(self):\n            return mean\n    return A",
        True,
    ),
    "by getattr": ("import made_up.tools as t\n    return getattr(t, 'me' + 'an')", True),
    "by a literal import": (
        "from importlib import import_module\n"
        "    return import_module('made_up.tools').mean([1])",
        True,
    ),
    "imported inside, or none": (
        "try:\n        from made_up.tools import mean as m\n    except ImportError:\n"
        "        m = None\n    return m",
        True,
    ),
    "imported inside from two": (
        "try:\n        from made_up.tools import mean as m\n    except ImportError:\n"
        "        from made_up.late import correction as m\n    return m",
        True,
    ),
    "as an outer function's import": (
        "import made_up.tools as t\n    def inner():\n        nonlocal t\n        t = t.mean\n"
        "    return inner",
        True,
    ),
    "in a method's default": ("class A:\n        def f(self, x=mean): ...\n    return A", True),
    "in a keyword of a decorator": (
        "import functools\n    @functools.partial(print, end=mean)\n    def f(): ...\n    return f",
        True,
    ),
    "in a quoted field": ("class A:\n        x: 'mean'\n    return A", True),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_a_name_is_followed_where_it_means_the_function(write, name):
    body, follows = BODIES[name]
    entry = {ENTRY: f"from made_up.tools import mean\n\n\ndef entry():\n    {body}\n"}
    before = write(**entry)
    after = write(**entry, **edited(TOOLS, ("SCALE * sum", "2 * SCALE * sum")))
    assert (before != after) == follows


def test_words_count_where_code_reads_them(write):
    reader = {
        ENTRY: "from made_up.rows import Fitted\n\n\ndef entry():\n"
        "    return [field.description for field in Fitted.model_fields.values()]\n"
    }
    before = write(**reader)
    assert write(**reader, **SAME["words of a column"]) != before
    assert write(**reader, **SAME["docstring of a class"]) == before
    said = {ROWS: PACKAGE[ROWS].replace("return Field(", "assert text, 'none'\n    return Field(")}
    before = write(**reader, **said)
    assert write(**reader, **{ROWS: said[ROWS].replace("'none'", "'no text'")}) == before


def test_what_a_decorator_of_ours_enters_counts_although_nobody_names_it(write):
    tasks = "KNOWN = []\n\n\ndef known(task):\n    KNOWN.append(task)\n    return task\n"
    tasks += "\n\n@known\ndef first():\n    return 1\n"
    entry = "from made_up.tasks import KNOWN\n\n\ndef entry():\n    return [t() for t in KNOWN]\n"
    before = write(**{ENTRY: entry, "made_up/tasks.py": tasks})
    tasks = tasks.replace("return 1", "return 2")
    assert write(**{ENTRY: entry, "made_up/tasks.py": tasks}) != before


DATA = {
    "text in a table": "return {'reason': 'slow'}",
    "text by a method called column": "return frame.column('slow')",
    "text by a function called column": "return column('slow')",
    "a description of ours": "return Row(description='slow')",
    "a name in an error": "raise KeyError(size, 'x', slow)",
    "text that is printed to a file": "print('slow', file=open('x', 'w'))",
    "a default in a field": "return Field('slow', description='d')",
    "an option's name": "return typer.Option('slow')",
    "a format": "return f'{size:slow}'",
    "a byte string": "return b'slow'",
    "a conversion": "return f'{slow!r}'",
}


@pytest.mark.parametrize("name", DATA)
def test_text_that_is_no_message_counts(write, name):
    head = "import typer\nfrom pydantic import Field\nfrom made_up.rows import Fitted as Row\n"
    head += "\n\ndef column(text):\n    return text\n\n\n"
    entry = f"{head}def entry(frame, size):\n    {DATA[name]}\n"
    assert write(**{ENTRY: entry}) != write(**{ENTRY: entry.replace("slow", "fast")})


def test_decorators_that_modules_import_from_one_another_end(write):
    one = "from made_up.two import second\n\n\ndef first(f):\n    return f\n"
    one += "\n\n@second\ndef entry():\n    return 1\n"
    two = "from made_up.entry import first\n\n\ndef second(f):\n    return f\n"
    two += "\n\n@first\ndef other():\n    return 1\n"
    before = write(**{ENTRY: one, "made_up/two.py": two})
    assert before != write(**{ENTRY: one, "made_up/two.py": two.replace("return 1", "return 2")})


def test_code_found_by_a_name_made_at_run_time_must_be_named(write):
    finder = "from importlib import import_module\n\n\n"
    finder += "def entry(name):\n    return import_module(f'made_up.{name}')\n"
    with pytest.raises(UserError, match=r"made_up\.entry, line 5"):
        write(**{ENTRY: finder})
    before = version("made_up.entry:entry", "made_up.late")
    (code_names.LIBRARY / "made_up/late.py").write_text("def correction():\n    return 1\n")
    assert version("made_up.entry:entry", "made_up.late") != before


def test_asking_whether_a_module_is_loaded_finds_no_code(write):
    asked = "import sys\n\n\ndef entry():\n    return {}\n"
    assert write(**{"made_up/entry.py": asked.format("'json' in sys.modules")})
    with pytest.raises(UserError, match="code is found by a name made at run time"):
        write(**{"made_up/entry.py": asked.format("sys.modules['json']")})


def test_a_name_that_is_not_there_is_refused(write):
    write()
    for root in ("made_up.entry:nothing", "made_up.nothing:entry", "scipy.stats:kendalltau"):
        with pytest.raises(UserError, match="no such"):
            version(root)


PRINT_VERSIONS = """
import sys
from flatness.pipeline.code_version import code_version
for entry in sys.argv[1:]:
    print(code_version(*entry.split(",")))
"""
EVERY = [
    ",".join([entry, "flatness.networks.vgg11", "flatness.datasets.images.cifar10"])
    for entry in VERBS.values()
]


ENTRIES = {entry.split(":")[1] for entry in VERBS.values()}


def versions_by(python, **environment):
    """The version of every verb, by an interpreter of its own."""
    done = subprocess.run(
        [python, "-c", PRINT_VERSIONS, *EVERY],
        env=os.environ | {"PYTHONPATH": str(code_names.LIBRARY)} | environment,
        capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    return done.stdout.split()


def interpreter(minor):
    """A Python of another minor version, without any package."""
    installed = Path.home() / ".pyenv/versions"
    found = sorted(installed.glob(f"3.{minor}.*/bin/python"))
    return str(found[-1]) if found else shutil.which(f"python3.{minor}")


@pytest.mark.parametrize("minor", [11, 12, 13, 14])
def test_the_same_on_every_python(minor):
    python = interpreter(minor)
    if python is None:
        pytest.skip(f"no Python 3.{minor} here")
    assert versions_by(python) == versions_by(sys.executable)


def test_the_same_in_every_locale():
    assert versions_by(sys.executable, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0") == (
        versions_by(sys.executable, PYTHONUTF8="1")
    )


def test_a_network_or_data_set_changes_its_own_jobs_alone(tmp_path, monkeypatch):
    shutil.copytree(code_names.LIBRARY / "flatness", tmp_path / "flatness")
    monkeypatch.setattr(code_names, "LIBRARY", tmp_path)

    def versions():
        trained = [
            version(VERBS["train-chen"], f"flatness.networks.{name}") for name in ("mlp", "vgg11")
        ]
        kinds = ("images.cifar10", "images.digits")
        return trained + [version(VERBS["fetch"], f"flatness.datasets.{name}") for name in kinds]

    before = versions()
    (tmp_path / "flatness/networks/tiny.py").write_text("def tiny():\n    return 1\n")
    (tmp_path / "flatness/datasets/images/tiny.py").write_text("def make():\n    return {}\n")
    assert versions() == before
    for name, old, new in [
        ("networks/vgg11.py", "padding=2", "padding=1"),
        ("datasets/images/cifar10.py", "permute(0, 3, 1, 2)", "permute(0, 3, 2, 1)"),
    ]:
        path = tmp_path / "flatness" / name
        assert old in path.read_text(encoding="utf-8")
        path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    after = versions()
    assert [old == new for old, new in zip(before, after, strict=True)] == [
        True, False, False, True,
    ]  # fmt: skip
    forget()


@pytest.mark.slow
def test_layout_comments_and_annotations_of_all_our_code_leave_no_trace(tmp_path, monkeypatch):
    entries = [entry.split(",") for entry in EVERY]
    before = [version(*entry) for entry in entries]
    for path in (code_names.LIBRARY / "flatness").rglob("*.py"):
        tree = ast.parse(path.read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name not in ENTRIES:
                node.returns = None
                for argument in ast.walk(node.args):
                    if isinstance(argument, ast.arg):
                        argument.annotation = None
        copy = tmp_path / path.relative_to(code_names.LIBRARY)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(ast.unparse(tree), encoding="utf-8")
    monkeypatch.setattr(code_names, "LIBRARY", tmp_path)
    assert [version(*entry) for entry in entries] == before
    forget()


def test_verbs_reach_no_whole_module_by_chance():
    """A module that is handed on as an object would count whole, with all that it imports."""
    for entry in VERBS.values():
        whole = [place for part in closures([entry]) for place in part.reached
                 if isinstance(place, code_names.Module)]  # fmt: skip
        assert [place.name for place in whole] == [], entry
