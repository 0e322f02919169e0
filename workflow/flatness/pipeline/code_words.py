"""Words in code: strings of messages and documentation, which do not affect computations."""

import ast
from collections.abc import Collection

#: Arguments of other libraries' functions that are documentation.
DOCUMENTING = {"help", "desc", "description"}
#: Functions and methods whose strings are messages.
MESSAGES = {"warnings.warn", "print"}
MESSAGE_METHODS = {"set_description", "set_postfix_str"}
#: Our function that declares a column: its strings are documentation.
COLUMN = "column"
#: The module that contains only documentation.
WORDS = "words"


def without_words(call: ast.Call, *, everywhere: bool, keywords: Collection[str] = ()) -> ast.Call:
    """A call without arguments that are words: all arguments, or only some keywords."""
    return ast.Call(
        call.func,
        [value for value in call.args if not (everywhere and is_words(value))],
        [
            keyword
            for keyword in call.keywords
            if not ((everywhere or keyword.arg in keywords) and is_words(keyword.value))
        ],
    )


def declares_column(name: str, function: ast.stmt) -> bool:
    """Whether a function is the one that declares columns: it makes a pydantic field."""
    names = (getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(function))
    return name == COLUMN and "Field" in names


def prints_to_a_file(call: ast.Call) -> bool:
    """Whether `print` writes elsewhere than to the error output, where messages go."""
    places = [keyword.value for keyword in call.keywords if keyword.arg in {"file", None}]
    return any(ast.unparse(place) != "sys.stderr" for place in places)


def is_words(node: ast.expr) -> bool:
    """Whether an expression is literal text, wholly or partly."""
    match node:
        case ast.Constant(value=str()) | ast.JoinedStr():
            return True
        case ast.Attribute(value=ast.Name(id=name)):
            return name == WORDS
        case ast.BinOp(left=left, op=ast.Add() | ast.Mod(), right=right):
            return is_words(left) or is_words(right)
        case ast.IfExp(body=body, orelse=orelse):
            return is_words(body) and is_words(orelse)
        case ast.Call(func=ast.Attribute(value=value)):
            return is_words(value)
    return False
