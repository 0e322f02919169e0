"""Version of the code behind a job: it runs again when what it computes changed, and only then."""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

LIBRARY = Path(__file__).parents[2]


@cache
def _syntax_tree(path: Path) -> ast.Module:
    """What a module computes: its syntax tree without docstrings, and comments have none."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            del node.body[0]
    return tree


def _imported_modules(modules: Iterable[str]) -> dict[str, ast.Module]:
    """Syntax trees of modules and of all they import inside the package, by module name."""
    found = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = LIBRARY.joinpath(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in found or not name.startswith("flatness.") or not path.exists():
            continue
        found[name] = _syntax_tree(path)
        for node in ast.walk(found[name]):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
    return found


@cache
def code_version(*modules: str) -> str:
    """Hash of what modules compute: comments, docstrings and file times do not count.

    Args:
        *modules: dotted names, such as "flatness.studies.chen.train".

    Returns:
        12 hexadecimal digits, which change with the modules and what they import of this package.
    """
    trees = {name: ast.dump(tree) for name, tree in _imported_modules(modules).items()}
    return hashlib.sha256(repr(sorted(trees.items())).encode()).hexdigest()[:12]
