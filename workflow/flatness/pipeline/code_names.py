"""What a name in this package's code means: a definition of this package, or a library's name.

A definition is one statement at the top of a module that binds names: a function, a class, an
assignment. Files are only parsed, never imported, and each is parsed once.
"""

import ast
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple, Union

LIBRARY = Path(__file__).parents[2]

Function = (ast.FunctionDef, ast.AsyncFunctionDef)
#: Scopes: names that are assigned inside are not visible outside.
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
NESTED = (*Function, ast.ClassDef, ast.Lambda, *COMPREHENSIONS)
#: Nodes that can bind a name.
BINDING = (ast.Name, *Function, ast.ClassDef, ast.ExceptHandler, ast.Import, ast.ImportFrom)
BINDING += (ast.MatchAs, ast.MatchStar, ast.MatchMapping, ast.Global, ast.Nonlocal)


class Import(NamedTuple):
    """Where an imported name comes from; `name` is None where it is the module itself."""

    module: str
    name: str | None


@dataclass(eq=False)
class Definition:
    """A statement at the top of one of our modules, and the names that it binds."""

    module: "Module"
    node: ast.stmt
    names: tuple[str, ...]


@dataclass(eq=False)
class Module:
    """One of our modules.

    Attributes:
        name: with dots.
        bindings: name -> the statements that bind it.
        stars: modules from which all names are imported.
        imported: modules that run when it is imported; these may import further modules.
        statements: all statements at its top level.
    """

    name: str
    is_package: bool = False
    bindings: dict[str, list[Definition | Import]] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    imported: set[str] = field(default_factory=set)
    statements: list[Definition] = field(default_factory=list)


class Named(NamedTuple):
    """A definition with one of its names."""

    definition: Definition
    name: str


#: What a name can mean: a definition, a whole module of ours, a name of another library.
Target = Union[Named, Module, str]  # noqa: UP007, `Named | ...` would be evaluated as a tuple's


@cache
def load(name: str) -> Module | None:
    """Parses a module of ours.

    Args:
        name: with dots, such as "flatness.studies.chen.train".

    Returns:
        The module; None if no file of this package has the name.
    """
    place = LIBRARY.joinpath(*name.split("."))
    package = place / "__init__.py"
    source = package if package.exists() else place.with_suffix(".py")
    if not source.exists():
        # A folder without __init__.py is a package, too.
        return Module(name, is_package=True) if any(place.glob("*.py")) else None
    module = Module(name, is_package=source == package)
    # Bytes, so that the file decides the encoding, not the locale.
    for statement in ast.parse(source.read_bytes(), str(source)).body:
        _enter(module, statement)
    return module


def _enter(module: Module, statement: ast.stmt) -> None:
    """Records what a statement at the top of a module binds and does."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return  # a docstring
    bound = bound_names([statement], module)
    definition = Definition(
        module, statement, tuple(name for name, origins in bound.items() if None in origins)
    )
    module.statements.append(definition)
    for name, origins in bound.items():
        module.bindings.setdefault(name, []).extend(origin or definition for origin in origins)
    for node in ast.walk(statement) if _is_compound(statement) else [statement]:
        if isinstance(node, ast.Import | ast.ImportFrom):
            module.imported |= imported_modules(node, module)
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                module.stars.append(origin_of(node, module))


def _is_compound(statement: ast.stmt) -> bool:
    return hasattr(statement, "body") and not isinstance(statement, (*Function, ast.ClassDef))


@cache
def effects(module: Module) -> list[Definition]:
    """Statements of a module that do more on import than bind names."""
    return [found for found in module.statements if _acts(found.node, module)]


def _acts(statement: ast.stmt, module: Module) -> bool:
    match statement:
        case ast.Import() | ast.ImportFrom() | ast.Pass() | ast.AnnAssign(value=None):
            return False
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            # A decorator of this package may register what it decorates.
            names = (_first_name(decorator) for decorator in statement.decorator_list)
            return any(not isinstance(found, str) for n in names for found in meaning(module, n))
        case ast.Assign(targets=targets):
            return any(isinstance(target, ast.Attribute | ast.Subscript) for target in targets)
        case ast.AnnAssign(target=target) | ast.AugAssign(target=target):
            return not isinstance(target, ast.Name)
        case ast.If(test=ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
            return bool(statement.orelse)
    return type(statement).__name__ != "TypeAlias"


def _first_name(expression: ast.expr) -> str:
    """The first name of a chain of attributes and calls; empty if it does not begin with a name."""
    while isinstance(expression, ast.Attribute | ast.Call | ast.Subscript):
        expression = expression.func if isinstance(expression, ast.Call) else expression.value
    return expression.id if isinstance(expression, ast.Name) else ""


def origin_of(node: ast.ImportFrom, module: Module) -> str:
    """The module of a `from` import, with the dots of relative imports resolved."""
    if not node.level:
        return node.module
    parts = module.name.split(".")
    parts = parts[: len(parts) - node.level + module.is_package]
    return ".".join([*parts, *([node.module] if node.module else [])])


def imported_modules(node: ast.Import | ast.ImportFrom, module: Module) -> set[str]:
    """Modules that an import statement runs: the named ones, and their parent packages."""
    if isinstance(node, ast.Import):
        named = {alias.name for alias in node.names}
    else:
        origin = origin_of(node, module)
        named = {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
    return {around for name in named for around in with_packages(name) if is_ours(around)}


@cache
def is_ours(name: str) -> bool:
    """Whether a module belongs to this package, without parsing it."""
    place = LIBRARY.joinpath(*name.split("."))
    return place.with_suffix(".py").exists() or place.is_dir()


def with_packages(name: str) -> list[str]:
    """A module's name and the names of its parent packages."""
    parts = name.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def bound_names(statements: Iterable[ast.AST], module: Module) -> dict[str, list[Import | None]]:
    """Names that statements bind in their own scope, with the sources of imported names.

    Args:
        statements: the body of a function, or statements at a module's top level.
        module: the module that contains them.

    Returns:
        Maps each name to its imports, with None for other bindings.
    """
    found: dict[str, list[Import | None]] = {}
    elsewhere = set()
    for node in own_nodes(statements, BINDING):
        if isinstance(node, ast.Global | ast.Nonlocal):
            elsewhere.update(node.names)
        else:
            for name, origin in _bindings(node, module):
                origins = found.setdefault(name, [])
                if origin not in origins:
                    origins.append(origin)
    return {name: origins for name, origins in found.items() if name not in elsewhere}


def _bindings(node: ast.AST, module: Module) -> Iterator[tuple[str, Import | None]]:
    """Names that one node binds."""
    match node:
        case ast.Name(id=name):
            if not isinstance(node.ctx, ast.Load):
                yield name, None
        case ast.Import():
            for alias in node.names:
                first = alias.name.split(".")[0]
                yield alias.asname or first, Import(alias.name if alias.asname else first, None)
        case ast.ImportFrom():
            for alias in node.names:
                if alias.name != "*":
                    origin = Import(origin_of(node, module), alias.name)
                    yield alias.asname or alias.name, origin
        case ast.MatchMapping(rest=str(name)):
            yield name, None
        case _:  # functions, classes, caught errors, names in patterns
            name = getattr(node, "name", None)
            if name:
                yield name, None


def own_nodes(nodes: Iterable[ast.AST], kind: type = ast.AST) -> Iterator[ast.AST]:
    """The nodes of a kind in one scope, without nested scopes."""
    waiting = deque(nodes)
    while waiting:
        node = waiting.popleft()
        if isinstance(node, kind):
            yield node
        if not isinstance(node, NESTED):
            waiting.extend(ast.iter_child_nodes(node))


def meaning(module: Module, name: str, passed: frozenset = frozenset()) -> list[Target]:
    """What a name means at the top of a module.

    Args:
        module: a module of this package.
        name: without dots.
        passed: names already visited, to stop at circular imports.

    Returns:
        Everything that it may mean: several meanings if it is bound repeatedly, none if the
        module does not bind it.
    """
    if (module.name, name) in passed:
        return []
    passed |= {(module.name, name)}
    found: list[Target] = []
    for binding in module.bindings.get(name, ()):
        if isinstance(binding, Definition):
            found.append(Named(binding, name))
        else:
            found += imported(binding, passed)
    if not found:
        for star in module.stars:
            origin = load(star)
            found += meaning(origin, name, passed) if origin else [f"{star}.*.{name}"]
    return found


def imported(origin: Import, passed: frozenset = frozenset()) -> list[Target]:
    """What an import or a module's attribute means; the whole module if this is unknown."""
    module = load(origin.module)
    if module is None:
        return [origin.module if origin.name is None else f"{origin.module}.{origin.name}"]
    if origin.name is None:
        return [module]
    found = meaning(module, origin.name, passed)
    return found or [load(f"{origin.module}.{origin.name}") or module]
