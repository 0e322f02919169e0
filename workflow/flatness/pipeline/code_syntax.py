"""The syntax of a definition as text that changes with the computation, and with little else.

The text leaves out comments, docstrings, annotations that nothing reads, and the words of messages.
Names of this package become references, so the place of a definition and the name of its import do
not matter. The text is the same on every version of Python that can parse the code.
"""

import ast
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import groupby

from flatness.pipeline.code_names import (
    Definition,
    Import,
    Module,
    Named,
    Target,
    bound_names,
    imported,
    imported_modules,
    meaning,
    own_nodes,
)
from flatness.pipeline.code_words import (
    DOCUMENTING,
    MESSAGE_METHODS,
    MESSAGES,
    declares_column,
    is_words,
    prints_to_a_file,
    without_words,
)

#: Fields of nodes that do not affect the computation.
SKIPPED = {"ctx", "kind", "type_comment", "type_params"}
#: Attributes by which code reads documentation; if it does, words count.
READERS = {"description", "json_schema_extra", "model_json_schema"}
#: Functions that find code by a name made at run time.
IMPORTERS = {"importlib.import_module", "__import__"}
FINDERS = IMPORTERS | {"eval", "exec", "globals", "sys.modules"}
FINDING_METHODS = {"__subclasses__", "__init_subclass__"}


@cache
def syntax(definition: Definition, *, annotated: bool = False, worded: bool = False) -> "Syntax":
    """The syntax of a definition, computed once.

    Args:
        definition: a definition of this package.
        annotated: whether the annotations of its own arguments count.
        worded: whether the words of documentation count.

    Returns:
        The syntax.
    """
    return Syntax(definition, annotated=annotated, worded=worded)


class Syntax(ast.NodeVisitor):
    """A definition as text with references.

    Args:
        definition: a definition of this package.
        annotated: whether the annotations of its own arguments count.
        worded: whether the words of documentation count.

    Attributes:
        parts: text, and references to definitions and whole modules, in their order.
        modules: names of this package's modules that it imports inside.
        reads_words: whether it reads documentation.
        finds: the line in which it finds code by a name made at run time; 0 if it does not.
    """

    def __init__(self, definition: Definition, *, annotated: bool, worded: bool) -> None:
        self.parts: list[str | Named | Module] = []
        self.modules: set[str] = set()
        self.reads_words = False
        self.finds = 0
        self._module = definition.module
        self._names = definition.names
        self._annotated = annotated
        self._worded = worded
        #: Names bound by enclosing functions: their imports, or none for other bindings.
        self._local: dict[str, list[Import]] = {}
        self._place = "module"  # or "class" or "function"
        self.visit(definition.node)

    def _emit(self, text: str) -> None:
        if self.parts and isinstance(self.parts[-1], str):
            self.parts[-1] += text
        else:
            self.parts.append(text)

    def generic_visit(self, node: ast.AST, without: str = "") -> None:
        """Writes a node's kind and fields."""
        self._emit(f"{type(node).__name__}(")
        for name in node._fields:
            value = getattr(node, name, None)
            # None and empty lists carry no meaning, and newer Pythons have more such fields.
            if name not in SKIPPED and name != without and value is not None and value != []:
                self._emit(f"{name}=")
                self._visit_all(value if isinstance(value, list) else [value])
        self._emit(")")

    def _visit_all(self, values: Iterable[object]) -> None:
        for value in values:
            if isinstance(value, ast.AST):
                self.visit(value)
            else:
                self._emit(f"{value!a},")

    @contextmanager
    def _within(self, place: str, local: dict[str, list[Import]]) -> Iterator[None]:
        before = self._place, self._local
        self._place, self._local = place, local
        yield
        self._place, self._local = before

    # names

    def visit_Name(self, node: ast.Name) -> None:
        """A local name as it is; any other name by its meaning."""
        binds = not isinstance(node.ctx, ast.Load)
        own = node.id in self._local and not self._local[node.id]
        if own or (binds and self._place == "class"):
            self._emit(f"Name({node.id})")
        elif binds and self._place == "module":
            self._emit(f"Bound({node.id if len(self._names) > 1 else ''})")
        else:
            self._refer(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """A module's attribute by its meaning; any other attribute by its name."""
        self.reads_words |= node.attr in READERS and isinstance(node.ctx, ast.Load)
        if node.attr in FINDING_METHODS:
            self.finds = node.lineno
        if not self._refer(node):
            self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        """A comparison; testing whether a module with a fixed name is loaded finds no code."""
        finds = self.finds
        self.generic_visit(node)
        if isinstance(node.left, ast.Constant) and isinstance(node.ops[0], ast.In | ast.NotIn):
            self.finds = finds

    def _refer(self, node: ast.expr) -> bool:
        """Writes a reference; nothing for a local name."""
        targets, attributes = self._meaning(node)
        for target in targets:
            if isinstance(target, str):
                self._emit(f"<{target}>")
                if target in FINDERS:
                    self.finds = node.lineno
            else:
                self.parts.append(target)
        self._emit("".join(f".{attribute}," for attribute in attributes))
        return bool(targets)

    def _meaning(self, node: ast.expr) -> tuple[list[Target], list[str]]:
        """The meaning of the first part of a dotted name, and the remaining attributes."""
        attributes: list[str] = []
        while isinstance(node, ast.Attribute):
            attributes.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return [], []
        if node.id in self._local:
            targets = [found for origin in self._local[node.id] for found in imported(origin)]
        else:
            targets = meaning(self._module, node.id) or [node.id]
        while attributes and targets and not any(isinstance(found, Named) for found in targets):
            inside = [found for target in targets for found in _attribute(target, attributes[0])]
            if inside == targets:
                break  # not bound by the module's code, such as __name__
            targets = inside
            del attributes[0]
        return targets, attributes

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        """Only the modules that run; a used name is written by its meaning."""
        self.modules |= imported_modules(node, self._module)

    visit_ImportFrom = visit_Import  # noqa: N815

    # scopes

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Decorators and defaults are evaluated outside; the return annotation is left out."""
        self._emit(f"{type(node).__name__}({node.name},")
        if node.name in FINDING_METHODS:
            self.finds = node.lineno
        self._visit_all(node.decorator_list)
        self._visit_inside(node.args, node.body)
        self._emit(")")

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """A function of one expression."""
        self._emit("Lambda(")
        self._visit_inside(node.args, [node.body])
        self._emit(")")

    def _visit_inside(self, arguments: ast.arguments, body: list[ast.AST]) -> None:
        self.visit(arguments)
        own = {node.arg: [] for node in ast.walk(arguments) if isinstance(node, ast.arg)}
        elsewhere = {name for node in own_nodes(body, ast.Global) for name in node.names}
        outside = {name: origin for name, origin in self._local.items() if name not in elsewhere}
        with self._within("function", outside | own | self._bound(body)):
            self._visit_all(body)

    def _bound(self, nodes: list[ast.AST]) -> dict[str, list[Import]]:
        """Names that nodes bind in their scope, each with its imports."""
        bound = bound_names(nodes, self._module)
        return {name: [found for found in origins if found] for name, origins in bound.items()}

    def visit_arg(self, node: ast.arg) -> None:
        """An argument; its type where something reads it at run time, as typer does."""
        self._emit(f"{node.arg}:")
        if node.annotation and self._annotated and self._place == "module":
            self._visit_annotation(node.annotation)

    def _visit_comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
    ) -> None:
        first = node.generators[0]
        self.visit(first.iter)  # is evaluated outside
        own = self._bound([generator.target for generator in node.generators])
        with self._within("function", self._local | own):
            self.generic_visit(first, without="iter")
            self._visit_all(node.generators[1:])
            self.generic_visit(node, without="generators")

    visit_ListComp = visit_SetComp = _visit_comprehension  # noqa: N815
    visit_DictComp = visit_GeneratorExp = _visit_comprehension  # noqa: N815

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """A whole class. Its methods do not see the names that it binds."""
        self._emit(f"ClassDef({node.name},")
        self._visit_all([*node.decorator_list, *node.bases, *node.keywords])
        imports = {name: origins for name, origins in self._bound(node.body).items() if origins}
        with self._within("class", self._local | imports):
            self._visit_all(node.body)
        self._emit(")")

    # annotations

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """A field in a class, whose type may be read; elsewhere an assignment."""
        if self._place == "class":
            self._emit("Field(")
            self._visit_annotation(node.annotation)
            self._visit_all([node.target, *([node.value] if node.value else [])])
            self._emit(")")
        elif node.value:
            self.visit(ast.Assign([node.target], node.value))

    def _visit_annotation(self, node: ast.expr) -> None:
        """A type that is read at run time; a quoted type means its content."""
        self.visit(node)
        for text in _quoted(node):
            with suppress(SyntaxError):
                self.visit(ast.parse(text, mode="eval").body)

    # constants

    def visit_Expr(self, node: ast.Expr) -> None:
        """A docstring or an ellipsis is left out."""
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_Pass(self, node: ast.Pass) -> None:
        """No trace."""

    def visit_Constant(self, node: ast.Constant) -> None:
        """Escaped, since printable characters depend on Python's version."""
        self._emit(f"{node.value!a},")

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Adjacent texts as one: Pythons split them differently."""
        self._emit("JoinedStr(")
        for is_text, values in groupby(node.values, lambda v: isinstance(v, ast.Constant)):
            if is_text:
                self._emit(ascii("".join(value.value for value in values)))
            else:
                self._visit_all(values)
        self._emit(")")

    def visit_FormattedValue(self, node: ast.FormattedValue) -> None:
        """An empty format counts as none."""
        empty = node.format_spec is not None and not node.format_spec.values
        self.generic_visit(node, without="format_spec" if empty else "")

    # words

    def visit_Raise(self, node: ast.Raise) -> None:
        """The error without its words."""
        raised = node.exc
        if isinstance(raised, ast.Call):
            raised = without_words(raised, everywhere=True)
        self.generic_visit(ast.Raise(raised, node.cause))

    def visit_Assert(self, node: ast.Assert) -> None:
        """The condition without the words."""
        words = node.msg is not None and is_words(node.msg)
        self.generic_visit(node, without="msg" if words else "")

    def visit_Call(self, node: ast.Call) -> None:
        """A call without words; a call that imports a module by a literal name means the module."""
        targets, attributes = self._meaning(node.func)
        target = targets[0] if len(targets) == 1 and not attributes else None
        if target in IMPORTERS and _names_a_module(node):
            self._emit(f"<{node.args[0].value}>")
            for found in imported(Import(node.args[0].value, None)):
                self.parts += [found] if isinstance(found, Module) else []
            return
        written = target in MESSAGES and not (target == "print" and prints_to_a_file(node))
        if isinstance(node.func, ast.Attribute):
            written |= node.func.attr in MESSAGE_METHODS
        declares = isinstance(target, Named) and declares_column(
            target.name, target.definition.node
        )
        documents = isinstance(target, str) and not self._worded
        self.generic_visit(
            without_words(
                node,
                everywhere=written or (declares and not self._worded),
                keywords=DOCUMENTING if documents else (),
            )
        )


def _attribute(target: Target, name: str) -> list[Target]:
    if isinstance(target, str):
        return [f"{target}.{name}"]
    return imported(Import(target.name, name))


def _quoted(annotation: ast.AST) -> Iterator[str]:
    """Strings in an annotation, without arguments of calls."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        yield annotation.value
    elif not isinstance(annotation, ast.Call):
        for inside in ast.iter_child_nodes(annotation):
            yield from _quoted(inside)


def _names_a_module(call: ast.Call) -> bool:
    named = call.args[0] if len(call.args) == 1 and not call.keywords else None
    return isinstance(named, ast.Constant) and isinstance(named.value, str)
